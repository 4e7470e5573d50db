"""What is looked at when a workflow starts: the mistakes that would end in waiting for ever."""

import sys
from typing import Any

from ademvl.errors import SettingsError, list_findings
from ademvl.workflow.slurm import (
    INIT_SECONDS,
    STATUS_COMMAND,
    ask_slurm,
    resource_problems,
    status_problems,
)
from ademvl.workflow.slurm_patience import keep_unanswered_jobs

_PLUGIN = "snakemake_executor_plugin_slurm"


def check_workflow(workflow: Any) -> None:
    """Refuse what would hang, and keep Snakemake patient, if this workflow submits to Slurm.

    Args:
        workflow: Snakemake's, as a Snakefile has it.

    Raises:
        SettingsError: the profile does not go together with the cluster.
        ToolError: Slurm does not answer.
    """
    plugin = sys.modules.get(_PLUGIN)
    options = workflow.executor_settings
    if plugin is None or not isinstance(options, plugin.ExecutorSettings):
        return
    keep_unanswered_jobs(plugin.Executor)
    profile = {
        STATUS_COMMAND: options.status_command,
        INIT_SECONDS: options.init_seconds_before_status_checks,
    }
    problems = list(status_problems(profile, ask_slurm()))
    places = {"default-resources": workflow.resource_settings.default_resources or {}}
    for rule, resources in workflow.resource_settings.overwrite_resources.items():
        places[f"set-resources: {rule}"] = resources
    for place, resources in places.items():
        if "gpus" in resources:
            problems += resource_problems(place, {"gpus": resources["gpus"]})
    if problems:
        remedy = "`ademvl preflight --profile FOLDER` checks a profile completely."
        raise SettingsError(list_findings("this profile cannot work here", problems, remedy))
