"""Whole GPUs for one job: which it may use, which are free, and waiting for them in turn.

Jobs that share a machine share its GPUs by locks (`ticket_queue`), whatever started them. The
devices of a job are those that CUDA_VISIBLE_DEVICES allows, else all of the machine; the job finds
what it got in the same variable, which its child processes inherit. Nothing here imports torch.
"""

import hashlib
import logging
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ademvl.config.gpu_limit import GpuLimit, is_device
from ademvl.errors import SettingsError, ToolError
from ademvl.machine.ticket_queue import TicketQueue
from ademvl.machine.tools import answer_of

_log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"
LOCKS = "ADEMVL_GPU_LOCKS"
_TOOL_TIMEOUT_SECONDS = 20.0
_BATCH_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "KUBERNETES_SERVICE_HOST")


@dataclass(frozen=True)
class Gpu:
    """One device.

    Attributes:
        id: what CUDA_VISIBLE_DEVICES calls it: an index or a UUID.
        lock: name of its lock, the same for every job that can reach it.
    """

    id: str
    lock: str


def visible_gpus(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Return the devices that a job with this environment may use.

    What CUDA_VISIBLE_DEVICES names is taken at its word where nvidia-smi is missing: then the
    devices are counted, and whether torch can use them is for torch to say.

    Raises:
        ToolError: CUDA_VISIBLE_DEVICES names a device that the machine does not have.
    """
    machine = _machine_gpus()
    if environ.get(VISIBLE) is None:
        return tuple(Gpu(index, uuid) for index, uuid in machine)
    found = []
    for entry in environ[VISIBLE].split(","):
        name = entry.strip()
        if not is_device(name):
            break  # CUDA ignores a wrong entry and all that follow: "-1" and "" are no GPU
        found.append(Gpu(name, _lock_name(name, machine, environ)))
    return tuple(found)


def _machine_gpus() -> list[tuple[str, str]]:
    """Index and UUID of every GPU of this machine, or of this job's part of it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        command = [program, "--query-gpu=index,uuid", "--format=csv,noheader"]
        found = answer_of(command, timeout_seconds=_TOOL_TIMEOUT_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("nvidia-smi does not answer, so this machine counts as one without: %s", error)
        return []
    rows = [line.partition(",") for line in found.splitlines() if "," in line]
    return [(index.strip(), uuid.strip()) for index, _, uuid in rows]


def _lock_name(name: str, machine: Sequence[tuple[str, str]], environ: Mapping[str, str]) -> str:
    """Return what all jobs call a device.

    Under a batch system indices may count the devices of the job alone, so UUIDs are used; where
    they cannot be found out, jobs of one allocation share names and those of others do not.
    """
    if name.startswith("MIG-") or not machine:
        job = environ.get("SLURM_JOB_ID", "")
        scope = f"slurm{job}-" if job and name.isdecimal() else ""
        return "gpu-" + scope + name.replace("/", "_")
    for index, uuid in machine:
        if name == index or (name.startswith("GPU-") and uuid.startswith(name)):
            return uuid
    has = ", ".join(index for index, _ in machine)
    raise ToolError(f"{VISIBLE}={environ[VISIBLE]}: this machine has no GPU {name}, only {has}")


def _within(gpus: Sequence[Gpu], limit: GpuLimit) -> tuple[Gpu, ...]:
    """Return the devices that a list in the settings allows as well."""
    if isinstance(limit, str | int):
        return tuple(gpus)
    names = {str(entry) for entry in limit}
    found = tuple(gpu for gpu in gpus if gpu.id in names or gpu.lock in names)
    if gpus and not found:
        raise SettingsError(
            f"gpus: {list(limit)}, but the GPUs that this job may use are "
            f"{', '.join(gpu.id for gpu in gpus)}"
        )
    return found


@contextmanager
def reserved_gpus(
    count: int | None, *, limit: GpuLimit = "all", job: Path
) -> Iterator[tuple[str, ...]]:
    """Have GPUs for oneself in this block, waiting for them in turn; they stand in the environment.

    This is where a job gets its devices: call it in the process that then trains or encodes, or
    that starts the processes that do, before CUDA is used. One of several processes of torchrun or
    srun has those of its launcher and takes none. In a job of a batch system the scheduler has
    chosen the devices, and `limit` is not looked at.

    Args:
        count: how many; 0 for the CPU; None for one where there is any.
        limit: which the study may use, or how many at once.
        job: directory of the run; `limit` counts for all runs of its study.

    Yields:
        Ids of the devices, as CUDA_VISIBLE_DEVICES has them; empty on the CPU.

    Raises:
        SettingsError: more are wanted than `limit` allows.
        ToolError: more are wanted than there are, or the folder of locks is not writable.
    """
    if _is_one_of_several(os.environ):
        yield tuple(gpu.id for gpu in visible_gpus(os.environ))
        return
    if any(name in os.environ for name in _BATCH_JOBS):
        limit = "all"
    gpus = () if count == 0 or limit == 0 else _within(visible_gpus(os.environ), limit)
    wanted = _checked_count(count, gpus, limit)
    queue = TicketQueue(lock_folder(os.environ)) if wanted else None
    with _slots(queue, wanted, len(gpus), limit, job):
        names = [gpu.lock for gpu in gpus]
        with _taken(queue, names, wanted, job, kind="the GPUs") as locks:
            taken = tuple(gpu.id for gpu in gpus if gpu.lock in locks)
            with _environment({VISIBLE: ",".join(taken), ORDER: "PCI_BUS_ID"}):
                if taken:
                    _log.info("%s: on GPU %s", job, ", ".join(taken))
                yield taken


def _is_one_of_several(environ: Mapping[str, str]) -> bool:
    tasks = environ.get("SLURM_STEP_NUM_TASKS", "1")
    return "WORLD_SIZE" in environ or (tasks.isdecimal() and int(tasks) > 1)


def lock_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of locks, the same for all users and jobs of this machine."""
    if environ.get(LOCKS):
        return Path(environ[LOCKS])
    for parent in (Path("/run/lock"), Path("/tmp")):
        if parent.is_dir() and parent.stat().st_mode & stat.S_IWOTH:
            return parent / "ademvl-gpus"
    raise ToolError(f"neither /run/lock nor /tmp is open to all users; set {LOCKS} to a folder")


def _checked_count(count: int | None, gpus: Sequence[Gpu], limit: GpuLimit) -> int:
    if count is None:
        return min(1, len(gpus))
    if count and not gpus:
        _log.warning("%d GPU(s) wanted, none there: running on the CPU", count)
        return 0
    if isinstance(limit, int) and count > limit:
        raise SettingsError(f"gpus: {limit}, but this job is to run on {count}")
    if count > len(gpus):
        raise ToolError(
            f"{count} GPUs wanted, but this job may use {len(gpus)} "
            f"({', '.join(gpu.id for gpu in gpus)}); ask for fewer in the profile "
            "(set-resources, gpu)"
        )
    return count


@contextmanager
def _slots(
    queue: TicketQueue | None, wanted: int, available: int, limit: GpuLimit, job: Path
) -> Iterator[None]:
    """Hold as many of the study's `limit` slots as GPUs are wanted, where the limit bites.

    Devices are only waited for with the slots in hand, and nobody with devices waits for slots.
    """
    if not isinstance(limit, int) or limit >= available:
        yield
        return
    study = job.resolve().parent.parent.parent  # <results>/<study>/runs/<run>/seed<k>
    digest = hashlib.sha256(str(study).encode()).hexdigest()[:16]
    names = [f"study-{digest}-{number}" for number in range(limit)]
    with _taken(queue, names, wanted, job, kind=f"the {limit} GPUs that {study} may use at once"):
        yield


@contextmanager
def _taken(
    queue: TicketQueue | None, names: Sequence[str], count: int, job: Path, *, kind: str
) -> Iterator[tuple[str, ...]]:
    if queue is None:
        yield ()
        return
    with queue.taken(names, count=count, job=str(job), kind=kind) as taken:
        yield taken


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
