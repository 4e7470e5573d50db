"""Processor, memory and GPUs of this machine, described."""

import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ademvl.machine.tools import answer_of

_TOOL_TIMEOUT_SECONDS = 10.0


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
    return tuple(query_gpus("name"))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def query_gpus(field: str) -> list[str]:
    """Ask nvidia-smi for one field of each visible GPU; empty where it is absent or fails."""
    program, visible = shutil.which("nvidia-smi"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not program or visible == "":
        return []
    command = [program, f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    if visible:
        command.append(f"--id={visible}")
    try:
        found = answer_of(command, timeout_seconds=_TOOL_TIMEOUT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in found.splitlines() if line.strip()]
