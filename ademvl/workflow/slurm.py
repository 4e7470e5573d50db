"""What Slurm would refuse, or wait for in vain: partitions, GPUs, accounting, status commands.

Slurm is asked by `sinfo` and `scontrol`; nothing is submitted or changed.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ademvl.errors import ToolError
from ademvl.machine.tools import answer_of
from ademvl.workflow.profile import Profile

STATUS_COMMAND = "slurm-status-command"
INIT_SECONDS = "slurm-init-seconds-before-status-checks"
_DEFAULT_INIT_SECONDS = 40
_SQUEUE_FACTOR = 3  # the plugin asks squeue where MinJobAge is that many times INIT_SECONDS
_SNAKEMAKE_MB = 500
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Cluster:
    """What a Slurm cluster says of itself.

    Attributes:
        gres: generic resources of each partition, such as `gpu:a100:4`, empty where it has none.
        default_partition: where jobs go that name none; empty if there is no such.
        has_accounting: whether sacct answers.
        min_job_age_seconds: how long squeue shows a finished job; None where it is not known.
    """

    gres: Mapping[str, str]
    default_partition: str
    has_accounting: bool
    min_job_age_seconds: int | None


def ask_slurm() -> Cluster:
    """Ask the cluster on this machine.

    Raises:
        ToolError: there are no commands of Slurm, or its controller does not answer.
    """
    if shutil.which("sinfo") is None:
        raise ToolError(
            "sinfo: not found, so there is no Slurm here. Run Snakemake on a login node, after "
            "`module load slurm` where the site wants that"
        )
    gres: dict[str, str] = {}
    default = ""
    for line in _answer("sinfo", "--noheader", "--format=%P|%G").splitlines():
        name, _, resources = line.strip().partition("|")
        if name.endswith("*"):
            default = name = name.removesuffix("*")
        kinds = [gres.get(name, ""), "" if resources == "(null)" else resources]
        gres[name] = ",".join(filter(None, kinds))
    config = _answer("scontrol", "show", "config")
    storage = re.search(r"^AccountingStorageType\s*=\s*(\S+)", config, re.MULTILINE)
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", config, re.MULTILINE)
    return Cluster(
        gres=gres,
        default_partition=default,
        has_accounting=storage is not None
        and storage[1] not in ("(null)", "accounting_storage/none"),
        min_job_age_seconds=int(age[1]) if age else None,
    )


def _answer(*command: str) -> str:
    try:
        return answer_of(command, timeout_seconds=_TIMEOUT_SECONDS)
    except subprocess.CalledProcessError as error:
        raise ToolError(f"{' '.join(command)}: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"{' '.join(command)}: no answer ({error})") from error


def slurm_problems(profile: Profile, cluster: Cluster) -> Iterator[str]:
    """Say what of a profile does not go together with a cluster."""
    yield from status_problems(profile.options, cluster)
    for place, resources in profile.resources():
        yield from resource_problems(place, resources)
        yield from _partition_problems(place, resources, cluster)


def status_problems(options: Mapping[str, Any], cluster: Cluster) -> Iterator[str]:
    """Say why Snakemake would never learn that a job has ended."""
    command = str(options.get(STATUS_COMMAND, "sacct"))
    wanted = _SQUEUE_FACTOR * int(options.get(INIT_SECONDS, _DEFAULT_INIT_SECONDS))
    age = cluster.min_job_age_seconds or 0
    if command == "sacct" and not cluster.has_accounting:
        yield (
            f"{STATUS_COMMAND}: sacct, but this cluster keeps no accounting, so that Snakemake "
            f"would wait for ever. Put `{STATUS_COMMAND}: squeue` into the profile"
        )
    elif command == "sacct":
        yield (
            f"{STATUS_COMMAND}: sacct, by which the plugin does not see that somebody cancels a "
            f"job, and waits for ever. Put `{STATUS_COMMAND}: squeue` into the profile"
        )
    elif age < wanted:
        tail = "" if cluster.has_accounting else ", which answers nothing without accounting"
        yield (
            f"{INIT_SECONDS}: the cluster forgets finished jobs after {age} s (MinJobAge), the "
            f"plugin wants {wanted} s and asks sacct instead{tail}. Put "
            f"`{INIT_SECONDS}: {max(1, age // _SQUEUE_FACTOR)}` into the profile"
        )


def resource_problems(place: str, resources: Mapping[str, Any]) -> Iterator[str]:
    """Say which resources mean something else than they seem to."""
    if "gpus" in resources:
        yield f"{place}: gpus asks Slurm for nothing, and the job fails. Write gpu (and gpu_model)"
    if _number(resources.get("gpu")) and resources.get("gres"):
        yield f"{place}: gpu and gres exclude each other. Write gpu (and gpu_model)"
    memory_mb = _number(resources.get("mem_mb"))
    if memory_mb is not None and memory_mb < _SNAKEMAKE_MB:
        yield (
            f"{place}: mem_mb {memory_mb}, but two Snakemake processes run in each job. Ask for "
            f"{_SNAKEMAKE_MB} at least"
        )


def _partition_problems(
    place: str, resources: Mapping[str, Any], cluster: Cluster
) -> Iterator[str]:
    partition = _text(resources.get("slurm_partition")) or cluster.default_partition
    if not partition:
        yield f"{place}: no slurm_partition, and the cluster has no default one. Name one of " + (
            ", ".join(cluster.gres)
        )
        return
    unknown = [name for name in partition.split(",") if name not in cluster.gres]
    if unknown:
        has = ", ".join(cluster.gres)
        yield f"{place}: slurm_partition {', '.join(unknown)} does not exist; there is {has}"
        return
    gres = ",".join(cluster.gres[name] for name in partition.split(","))
    model = _text(resources.get("gpu_model"))
    if _number(resources.get("gpu")) and "gpu" not in gres:
        having = [name for name, kinds in cluster.gres.items() if "gpu" in kinds]
        none = "No partition has any: only runs with mini backbones, which ask for none, work here"
        remedy = f"Name one of {', '.join(having)}" if having else none
        yield f"{place}: GPUs asked for in partition {partition}, which has none. {remedy}"
    elif model and model not in re.split(r"[:,()]", gres):
        has = gres or "no GPUs"
        yield f"{place}: gpu_model {model} is not in partition {partition}, which has {has}"


def _number(value: Any) -> int | None:
    """Return a plain number; None for an expression, which depends on the job."""
    text = str(value)
    return int(text) if text.isdecimal() else None


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip("'\"")
