"""GPUs by name: memory and rates from a table, and which of them is present."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from ademvl.config.run import Precision
from ademvl.errors import SettingsError

GPUS_FILE = Path(__file__).with_name("gpus.yaml")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: in the table.
        names: that it goes by.
        memory_mib: as nvidia-smi reports it.
        tflops: dense rate of matrix products by precision.
        gb_per_s: memory bandwidth, in 10^9 bytes.
        source: where the numbers come from.
    """

    name: str
    names: tuple[str, ...]
    memory_mib: int
    tflops: Mapping[Precision, float]
    gb_per_s: float
    source: str

    @property
    def memory_bytes(self) -> int:
        """Memory in bytes."""
        return self.memory_mib << 20

    def rate(self, precision: Precision) -> float:
        """Return operations a second at best.

        Raises:
            SettingsError: the card's matrix units do not compute in this precision.
        """
        if precision not in self.tflops:
            raise SettingsError(
                f"backbones.precision: {precision} is not computed by the matrix units of "
                f"{self.name}; use one of {', '.join(self.tflops)}"
            )
        return self.tflops[precision] * 1e12


@cache
def known_gpus() -> tuple[Gpu, ...]:
    """Read the table of GPUs."""
    rows = yaml.safe_load(GPUS_FILE.read_text(encoding="utf-8"))
    return tuple(
        Gpu(name=name, **{**row, "names": tuple(row["names"])}) for name, row in rows.items()
    )


def gpu_by_name(name: str) -> Gpu:
    """Return a GPU of the table by one of its names.

    Raises:
        SettingsError: none has this name.
    """
    wanted = _plain(name)
    for gpu in known_gpus():
        if wanted in map(_plain, gpu.names):
            return gpu
    known = ", ".join(gpu.name for gpu in known_gpus())
    raise SettingsError(f"--gpu: {name!r} is not in the table; known: {known}")


def present_gpu() -> Gpu | None:
    """Return what nvidia-smi lists first, if the table has it; None otherwise."""
    from ademvl.machine.hardware import gpu_names

    found = [_plain(name) for name in gpu_names()]
    if not found:
        return None
    fitting = [
        (len(_plain(name)), gpu)
        for gpu in known_gpus()
        for name in gpu.names
        if _plain(name) in found[0]
    ]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
