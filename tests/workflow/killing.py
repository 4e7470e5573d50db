"""Runs the workflow in a folder of its own, and kills it with everything it started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ademvl.reporting.tables.keys import MEASURED_KEYS
from tests.conftest import PROJECT_ROOT

SMOKE = PROJECT_ROOT / "workflow/studies/smoke.yaml"


def snakemake(folder: Path, *arguments: str, configfile: Path = SMOKE) -> subprocess.Popen[str]:
    """Start Snakemake on a study in `folder`, in a process group of its own."""
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT_ROOT / "Snakefile")),
        *("--directory", str(folder), "--configfile", str(configfile), "--cores", "2"),
        *arguments,
    ]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.Popen(
        command,
        text=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def run_to_end(folder: Path, *arguments: str, configfile: Path = SMOKE) -> str:
    """Run the workflow until it ends; return what it printed, or fail with it."""
    process = snakemake(folder, *arguments, configfile=configfile)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def run_and_kill(folder: Path, *, after_seconds: float, configfile: Path = SMOKE) -> bool:
    """Start the workflow and kill -9 all of it after a while; False when it ended before that."""
    process = snakemake(folder, configfile=configfile)
    deadline = time.monotonic() + after_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            process.communicate()
            return False
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return True


def outcome(results: Path) -> dict[str, bytes]:
    """Bytes of everything that must not depend on interruptions: all but what was measured."""
    kept = ("adapter/adapter.safetensors", "predictions/*.jsonl", "scores/*.json")
    found = [path for pattern in kept for path in results.glob(f"runs/*/seed*/{pattern}")]
    tables = [path for path in results.glob("tables/*") if path.stem not in MEASURED_KEYS]
    return {str(path.relative_to(results)): path.read_bytes() for path in [*found, *tables]}
