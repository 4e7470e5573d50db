"""How much memory a process may still take: of its GPU, or of the machine and its control group."""

from dataclasses import dataclass
from pathlib import Path

from ademvl.planning.memory import DeviceType

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class FreeMemory:
    """Memory that is free on the device that a run would use.

    Attributes:
        device_type: `cuda` or `cpu`.
        name: of the device, for messages.
        bytes: free now.
    """

    device_type: DeviceType
    name: str
    bytes: int


def free_gpu_memory(index: int) -> FreeMemory:
    """Return what is free on one GPU; other programs' memory is taken off.

    The call itself makes this process's context on the GPU, which is no longer free afterwards.
    """
    import torch

    free, _ = torch.cuda.mem_get_info(index)
    return FreeMemory("cuda", f"GPU {index} ({torch.cuda.get_device_name(index)})", free)


def free_host_memory() -> FreeMemory:
    """Return what the system has available, or the limit of a container or job if that is less."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = cgroup_free_bytes(CGROUP)
    return FreeMemory("cpu", "this machine", available if limit is None else min(available, limit))


def cgroup_free_bytes(root: Path) -> int | None:
    """Return what the memory limit of a control group leaves (version 2, else 1); None without."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most = (root / limit).read_text(encoding="ascii").strip()
            taken = int((root / used).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if most.isdigit():
            return max(int(most) - taken, 0)
    return None
