"""Which devices a run computes on: the GPUs that the environment allows, or the CPU.

CUDA_VISIBLE_DEVICES, where it is set, is the set of GPUs that may be used: torch sees no others.
"""

from typing import TYPE_CHECKING, Literal

from ademvl.config.mini_backbones import MINI_LLMS
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError

if TYPE_CHECKING:
    import torch


def set_threads(threads: int | None) -> None:
    """Limit torch to `threads` CPU threads; None leaves its own choice."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def wants_gpu(backbones: BackboneSettings) -> bool:
    """Whether a run is large enough for a GPU; with the mini language model or none it is not."""
    return bool(backbones.llm) and backbones.llm not in MINI_LLMS


def usable_gpus(backbones: BackboneSettings) -> int:
    """Return the number of GPUs that a run may compute on here; 0 where it uses the CPU."""
    if not wants_gpu(backbones):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def compute_device(
    backbones: BackboneSettings, *, local_rank: int = 0, local_processes: int = 1
) -> "torch.device":
    """Return the device of one process.

    Args:
        backbones: of the run.
        local_rank: number of this process among those on this machine.
        local_processes: how many these are; each takes a GPU of its own. Where a process sees
            one GPU alone, as Slurm's --gpus-per-task arranges, it takes that one.

    Raises:
        SettingsError: fewer GPUs than processes.
    """
    import torch

    gpus = usable_gpus(backbones)
    if not gpus:
        return torch.device("cpu")
    if gpus > 1 and gpus < local_processes:
        raise SettingsError(
            f"{local_processes} processes on this machine, but {gpus} GPUs; start at most {gpus} "
            "(--processes), or allow more GPUs (CUDA_VISIBLE_DEVICES)"
        )
    return torch.device("cuda", local_rank if gpus > 1 else 0)


DeviceType = Literal["cpu", "cuda"]
