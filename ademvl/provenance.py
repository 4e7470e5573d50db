"""Where a result comes from: code, packages, hardware, checksums, and what it cost."""

import hashlib
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Self

import ademvl
from ademvl.files import sha256_file, write_json

PACKAGES = ("torch", "transformers", "open_clip_torch", "tokenizers", "sentencepiece",
            "safetensors", "numpy", "pillow", "snakemake")  # fmt: skip
WHOLE_CHECKSUM_BYTES = 256 << 20
_SAMPLE_BYTES = 1 << 20
_TOOL_TIMEOUT_SECONDS = 10.0


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
            watts = _query_gpus("power.draw")
            now = time.monotonic()
            try:
                self.joules = (self.joules or 0.0) + sum(map(float, watts)) * (now - before)
            except ValueError:  # "[N/A]": this GPU does not tell
                return
            before = now


def write_provenance(
    path: Path,
    *,
    usage: Usage,
    started: datetime,
    checksums: Mapping[str, str],
    details: Mapping[str, Any],
) -> None:
    """Write provenance.json.

    Args:
        path: where to.
        usage: what the work cost, over all processes that took part.
        started: start of the last of them, with time zone.
        checksums: of data and weights that were read, by name.
        details: what the kind of work adds, e.g. counts of parameters; keys must be new.
    """
    content = {
        "code": {"version": ademvl.__version__, "sources_sha256": sources_sha256()},
        "python": platform.python_version(),
        "packages": package_versions(),
        "hardware": hardware(),
        "checksums": dict(checksums),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "usage": asdict(usage),
    }
    clash = content.keys() & details.keys()
    if clash:
        raise ValueError(f"details repeat {sorted(clash)}")
    write_json(path, {**content, **details})


@cache
def sources_sha256() -> str:
    """Return a fingerprint of the package's source code."""
    root = Path(ademvl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that results depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Describe processor, memory and GPUs."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "gpus": list(gpu_names()),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "system": f"{platform.system()} {platform.machine()}",
    }


@cache
def gpu_names() -> tuple[str, ...]:
    """Return the names of the GPUs that nvidia-smi lists; empty without one."""
    return tuple(_query_gpus("name"))


def checksum_file(path: Path) -> str:
    """Return the checksum of a data or weight file, quickly.

    `sha256:<hex>` of the whole file; above 256 MiB `sampled-sha256:<hex>` of its size, first and
    last MiB, because weights of many gigabytes are read at every start.
    """
    size = path.stat().st_size
    if size <= WHOLE_CHECKSUM_BYTES:
        return f"sha256:{sha256_file(path)}"
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_SAMPLE_BYTES))
        stream.seek(-_SAMPLE_BYTES, os.SEEK_END)
        digest.update(stream.read(_SAMPLE_BYTES))
    return f"sampled-sha256:{digest.hexdigest()}"


def checksum_files(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return checksums by path relative to `root`."""
    return {path.relative_to(root).as_posix(): checksum_file(path) for path in sorted(paths)}


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


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _query_gpus(field: str) -> list[str]:
    """Ask nvidia-smi for one field of each visible GPU; empty where it is absent or fails."""
    program, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not program or visible == "":
        return []
    command = [program, f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    if visible:
        command.append(f"--id={visible}")
    try:
        finished = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TOOL_TIMEOUT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in finished.stdout.splitlines() if line.strip()]
