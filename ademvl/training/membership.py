"""Where this process stands among those that train a run together: read from the environment.

Three ways lead here: `ademvl train` starts processes through torchrun itself; a user's torchrun
starts `ademvl train` (RANK and WORLD_SIZE are set); or srun starts it once a task (SLURM_PROCID).
"""

import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from ademvl.errors import SettingsError, ToolError
from ademvl.machine.tools import answer_of

_SCONTROL_TIMEOUT_SECONDS = 30
_FIRST_PORT, _NUM_PORTS = 20_000, 10_000


@dataclass(frozen=True)
class Membership:
    """One of several processes.

    Attributes:
        rank: number among all of them, from 0; process 0 alone writes files.
        world_size: how many there are.
        local_rank, local_processes: the same among those on this machine.
        init_method: where they meet, as torch.distributed takes it; `env://` leaves it to the
            variables that torchrun sets.
        address: the same as host and port.
        told_by: the variables that say so, for people.
    """

    rank: int
    world_size: int
    local_rank: int
    local_processes: int
    init_method: str = "env://"
    address: str = ""
    told_by: str = ""

    @property
    def others(self) -> str:
        """The other processes, in words."""
        if self.world_size == 2:
            return f"process {1 - self.rank} of 2"
        return f"the other {self.world_size - 1} of {self.world_size} processes"


def find_membership(environ: Mapping[str, str]) -> Membership | None:
    """Return what this process is among others, None where it was not started as one of several.

    A batch script of Slurm has SLURM_PROCID too, but is no step: only tasks of srun have
    SLURM_STEP_NUM_TASKS.

    Raises:
        SettingsError: variables are missing or malformed.
        ToolError: Slurm does not tell the first machine's name.
    """
    try:
        membership = _found(environ)
    except (KeyError, ValueError) as error:
        raise SettingsError(
            f"environment: started as one of several processes, but {error} is missing or no "
            "number; start with torchrun or srun, or unset RANK and WORLD_SIZE"
        ) from error
    if membership is not None and not 0 <= membership.rank < membership.world_size:
        raise SettingsError(
            f"environment: {membership.told_by}, but processes count from 0 to one less than there "
            "are; start with torchrun or srun, or unset RANK and WORLD_SIZE"
        )
    return membership


def _found(environ: Mapping[str, str]) -> Membership | None:
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return _of_torchrun(environ)
    if int(environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _of_slurm(environ)
    return None


def _told_by(environ: Mapping[str, str], *names: str) -> str:
    return " and ".join(f"{name}={environ[name]}" for name in names)


def _of_torchrun(environ: Mapping[str, str]) -> Membership:
    world_size = int(environ["WORLD_SIZE"])
    rank = int(environ["RANK"])
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not environ.get(name):
            raise KeyError(name)
    return Membership(
        rank=rank,
        world_size=world_size,
        local_rank=int(environ.get("LOCAL_RANK", rank)),
        local_processes=int(environ.get("LOCAL_WORLD_SIZE", world_size)),
        address=f"{environ['MASTER_ADDR']}:{int(environ['MASTER_PORT'])}",
        told_by=_told_by(environ, "RANK", "WORLD_SIZE"),
    )


def _of_slurm(environ: Mapping[str, str]) -> Membership:
    rank, world_size = int(environ["SLURM_PROCID"]), int(environ["SLURM_STEP_NUM_TASKS"])
    address = environ.get("MASTER_ADDR") or _first_host(environ["SLURM_STEP_NODELIST"])
    port = environ.get("MASTER_PORT") or _port_of(
        f"{environ['SLURM_JOB_ID']}.{environ['SLURM_STEP_ID']}"
    )
    return Membership(
        rank=rank,
        world_size=world_size,
        local_rank=int(environ["SLURM_LOCALID"]),
        local_processes=_tasks_on_node(environ),
        init_method=f"tcp://{address}:{port}",
        address=f"{address}:{port}",
        told_by=_told_by(environ, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    )


def _tasks_on_node(environ: Mapping[str, str]) -> int:
    """Read this machine's entry of SLURM_STEP_TASKS_PER_NODE, such as `4(x2),3`."""
    counts: list[int] = []
    for part in environ["SLURM_STEP_TASKS_PER_NODE"].split(","):
        count, _, times = part.rstrip(")").partition("(x")
        counts += [int(count)] * int(times or 1)
    node = int(environ["SLURM_NODEID"])
    return counts[min(node, len(counts) - 1)]


def _port_of(step: str) -> int:
    """Return the same port in all tasks of a step, and most likely another one in other steps."""
    return _FIRST_PORT + zlib.crc32(step.encode()) % _NUM_PORTS


def _first_host(nodes: str) -> str:
    """Return the first name of a list such as `node[07-09,12]`."""
    if "[" not in nodes:
        return nodes.partition(",")[0]
    try:
        command = ["scontrol", "show", "hostnames", nodes]
        listed = answer_of(command, timeout_seconds=_SCONTROL_TIMEOUT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolError(
            f"scontrol does not tell the machines of {nodes} ({error}); set MASTER_ADDR to the "
            "first of them"
        ) from error
    return listed.split()[0]
