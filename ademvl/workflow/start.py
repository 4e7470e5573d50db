"""What is looked at when a workflow starts: waiting for ever, shells, finished work thrown away."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
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
_EXPANDED = re.compile(r"""[$`"'\\\x00-\x1f\x7f]""")
"""Characters that do not stay what they are in the shell lines by which jobs are submitted."""


def check_workflow(workflow: Any) -> None:
    """Refuse what would hang or be misread, and keep Snakemake patient, where jobs are submitted.

    Wherever jobs run, what a job has made stays when the job fails: Snakemake would delete a
    finished training because a time on a file server is wrong. All verbs write files whole, and
    look themselves whether what is there is of the present settings.

    Args:
        workflow: Snakemake's, as a Snakefile has it.

    Raises:
        SettingsError: the profile does not go together with the cluster, or jobs cannot be
            submitted from this folder.
        ToolError: Slurm does not answer.
    """
    workflow.execution_settings.keep_incomplete = True
    if workflow.local_exec:
        # Snakemake starts 100 jobs a second at most, and for that looks again a second after each
        # look: while jobs wait for a core, once a second more for every job that has ended.
        workflow.scheduler.job_rate_limiter = None
    else:
        refuse_expanded((Path.cwd(), workflow.main_snakefile, *workflow.configfiles))
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


def refuse_expanded(paths: Iterable[str | Path]) -> None:
    """Refuse paths that a shell would read otherwise where Snakemake passes them on to a cluster.

    Raises:
        SettingsError: lists the paths with these characters.
    """
    found = {str(path): sorted({*_EXPANDED.findall(str(path))}) for path in paths}
    if any(found.values()):
        raise SettingsError(
            list_findings(
                "jobs cannot be submitted, as a shell would read these paths otherwise",
                [f"{path!r} holds {' '.join(map(repr, of))}" for path, of in found.items() if of],
                "Rename the folder, or put the project into another one.",
            )
        )
