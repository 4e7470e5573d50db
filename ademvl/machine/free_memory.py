"""How much memory a process may still take: of its GPU, or of the machine and its control group."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.machine.devices import DeviceType

if TYPE_CHECKING:
    import torch

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


def free_memory(device: "torch.device", *, local_processes: int = 1) -> FreeMemory:
    """Return what a process may still take on its device.

    Args:
        device: of the process.
        local_processes: that share this machine's memory; each has a GPU of its own.
    """
    if device.type == "cuda":
        return _free_gpu_memory(device)
    return free_host_memory(shares=local_processes)


def _free_gpu_memory(device: "torch.device") -> FreeMemory:
    """Return what is free on one GPU; what other programs took is not.

    The call itself makes this process's context on the GPU, which is no longer free afterwards.
    """
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return FreeMemory("cuda", f"{device} ({torch.cuda.get_device_name(device)})", free)


def free_host_memory(*, shares: int = 1) -> FreeMemory:
    """Return a share of what the system, or the control group of a container or job, has left."""
    import psutil

    available = int(psutil.virtual_memory().available)
    limit = cgroup_free_bytes(CGROUP)
    left = available if limit is None else min(available, limit)
    name = "this machine" if shares == 1 else f"this machine, for each of {shares} processes,"
    return FreeMemory("cpu", name, left // shares)


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
