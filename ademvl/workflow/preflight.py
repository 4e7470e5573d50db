"""Looks at a profile and the machine before anything is submitted, and says what would go wrong.

Snakemake and its plugins find most mistakes too, but late, job by job, or never.
"""

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ademvl.errors import ToolError
from ademvl.machine.gpus import visible_gpus
from ademvl.workflow.profile import Profile, pairs
from ademvl.workflow.slurm import ask_slurm, slurm_problems

_BUILT_IN = ("local", "dryrun", "touch")
_EXTRAS = {"slurm": "cluster", "cluster-generic": "cluster"}
_RULES = Path("workflow/rules")
_DEPLOYMENT_PROGRAMS = {"conda": ("conda",), "apptainer": ("apptainer", "singularity")}


def find_problems(profile: Profile) -> list[str]:
    """Say what is wrong with a profile on this machine, each finding with its remedy.

    Args:
        profile: what is about to be used.
    """
    problems = [*_plugin_problems(profile), *_deployment_problems(profile)]
    problems += _rule_problems(profile, _RULES)
    if profile.executor == "slurm":
        try:
            problems += slurm_problems(profile, ask_slurm())
        except ToolError as error:
            problems.append(str(error))
    elif profile.executor == "cluster-generic":
        problems += _generic_problems(profile)
    if profile.executor not in _BUILT_IN and not profile.options.get("retries"):
        problems.append(
            "retries: 0, so that a job that is preempted or over its limits ends the run. Put "
            "`retries: 3` into the profile; training goes on where it stopped"
        )
    return problems


def describe_machine() -> str:
    """Say what jobs without a cluster would run on."""
    gpus = ", ".join(gpu.id for gpu in visible_gpus(os.environ)) or "none"
    return f"{len(os.sched_getaffinity(0))} cores; GPUs: {gpus}"


def _plugin_problems(profile: Profile) -> Iterator[str]:
    module = f"snakemake_executor_plugin_{profile.executor.replace('-', '_')}"
    if profile.executor in _BUILT_IN or importlib.util.find_spec(module):
        return
    extra = _EXTRAS.get(profile.executor)
    package = f"'ademvl[{extra}]'" if extra else module.replace("_", "-")
    yield f"executor: {profile.executor} is not installed. pip install {package}"


def _deployment_problems(profile: Profile) -> Iterator[str]:
    wanted = profile.options.get("software-deployment-method", profile.options.get("sdm")) or []
    for method in [wanted] if isinstance(wanted, str) else wanted:
        programs = _DEPLOYMENT_PROGRAMS.get(method, ())
        if programs and not any(map(shutil.which, programs)):
            yield (
                f"software-deployment-method: {method}, but {' or '.join(programs)} is not on the "
                "PATH. Install it, or leave the key out and use the present environment"
            )


def _rule_problems(profile: Profile, folder: Path) -> Iterator[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.smk")))
    rules = re.findall(r"^(?:rule|checkpoint) (\w+):", text, flags=re.MULTILINE)
    named = dict.fromkeys(profile.set_resources, "set-resources")
    for key in ("set-threads", "groups"):
        named.update(dict.fromkeys(pairs(profile.options.get(key), place=key), key))
    for rule, key in named.items():
        if rules and rule not in rules:
            yield f"{key}: there is no rule {rule}; rules are {', '.join(rules)}"


def _generic_problems(profile: Profile) -> Iterator[str]:
    for key in ("submit", "status", "cancel"):
        name = f"cluster-generic-{key}-cmd"
        if not profile.options.get(name):
            yield f"{name} is missing; workflow/profiles/generic has one to copy"
    if not any(map(shutil.which, ("sbatch", "bsub", "qsub"))):
        yield "none of sbatch, bsub and qsub is on the PATH. Run this where jobs are submitted"
