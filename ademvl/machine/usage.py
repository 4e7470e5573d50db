"""What a piece of work costs: time, memory, and the energy of GPUs."""

import os
import resource
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from ademvl.machine.hardware import gpu_names, query_gpus


@dataclass(frozen=True)
class Usage:
    """What a piece of work cost; two pieces of the same work add up.

    Attributes:
        wall_seconds: time passed.
        cpu_seconds: processor time of the process and its finished children.
        peak_memory_mib: largest resident memory of the process.
        peak_gpu_memory_mib: largest memory that torch held on one GPU; 0 without GPU.
        energy_joules: of all visible GPUs, from sampled power; None where no GPU tells.
        processes: processes that worked on it, one after the other.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mib: float = 0.0
    peak_gpu_memory_mib: float = 0.0
    energy_joules: float | None = None
    processes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        energies = [u.energy_joules for u in (self, other) if u.energy_joules is not None]
        return Usage(
            wall_seconds=self.wall_seconds + other.wall_seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            peak_memory_mib=max(self.peak_memory_mib, other.peak_memory_mib),
            peak_gpu_memory_mib=max(self.peak_gpu_memory_mib, other.peak_gpu_memory_mib),
            energy_joules=sum(energies) if energies else None,
            processes=self.processes + other.processes,
        )


class UsageMeter:
    """Measures the present process from its construction on; a context manager.

    Args:
        with_energy: ask the GPUs for their power; one process of several is enough.
    """

    def __init__(self, *, with_energy: bool = True) -> None:
        self.started = datetime.now(UTC)
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()
        self._energy = _EnergyMeter() if with_energy and gpu_names() else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._energy:
            self._energy.stop()

    def read(self) -> Usage:
        """Return what was used so far; energy only where this process used a GPU."""
        gpu_memory_mib = peak_gpu_memory_mib()
        return Usage(
            wall_seconds=time.monotonic() - self._wall,
            cpu_seconds=_cpu_seconds() - self._cpu,
            peak_memory_mib=peak_memory_mib(),
            peak_gpu_memory_mib=gpu_memory_mib,
            energy_joules=self._energy.joules if self._energy and gpu_memory_mib else None,
            processes=1,
        )


class _EnergyMeter:
    """Adds up the power that nvidia-smi reports, in a thread of its own."""

    interval_seconds = 5.0

    def __init__(self) -> None:
        self.joules: float | None = None
        self._stopped = threading.Event()
        threading.Thread(target=self._sample, name="energy", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _sample(self) -> None:
        before = time.monotonic()
        while not self._stopped.wait(self.interval_seconds):
            watts = query_gpus("power.draw")
            now = time.monotonic()
            try:
                self.joules = (self.joules or 0.0) + sum(map(float, watts)) * (now - before)
            except ValueError:  # "[N/A]": this GPU does not tell
                return
            before = now


def peak_memory_mib() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def peak_gpu_memory_mib() -> float:
    """Return the largest memory that torch held on one GPU so far; 0 where it uses none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0.0
    devices = range(torch.cuda.device_count())
    return float(max(torch.cuda.max_memory_allocated(device) for device in devices)) / 2**20


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
