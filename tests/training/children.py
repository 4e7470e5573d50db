"""Trainings in child processes of their own, which can be killed."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from ademvl.runs.metrics import read_metrics
from tests import tiny

TIMEOUT_SECONDS = 120
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "open_clip",
        "tests.tiny",
        "transformers.models.llama.modeling_llama",
        "torch.distributed",
        "ademvl.training.run",
        "ademvl.training.loop",
        "ademvl.vision.features.extraction",
    ]
)


def start(run_dir: Path, environ: Mapping[str, str] | None = None) -> BaseProcess:
    """Start a training in a child."""
    child = _CONTEXT.Process(target=tiny.train_in_child, args=(run_dir, environ or {}))
    child.start()
    return child


def start_several(run_dir: Path, count: int) -> list[BaseProcess]:
    """Start the processes of one training, as a user's torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(run_dir, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(count)
    ]


def finish(*children: BaseProcess) -> list[int | None]:
    """Wait for children; return their exit codes."""
    for child in children:
        child.join(TIMEOUT_SECONDS)
    return [child.exitcode for child in children]


def train(run_dir: Path, *, processes: int = 1) -> None:
    """Train to the end in one or several children."""
    children = start_several(run_dir, processes) if processes > 1 else [start(run_dir)]
    assert finish(*children) == [0] * processes


def newest_state(run_dir: Path) -> str:
    """Return the name of the newest state, empty without any."""
    return max((path.name for path in run_dir.glob("state/step-*.json")), default="")


def wait_for_new_state(run_dir: Path, before: str, *children: BaseProcess) -> None:
    """Wait until there is a state after `before`, or a child has ended."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while all(child.exitcode is None for child in children) and newest_state(run_dir) <= before:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def interrupt(
    run_dir: Path, children: list[BaseProcess], number: signal.Signals, *, wait_seconds: float
) -> list[int | None]:
    """Send a signal to all children some time after a new state; return their exit codes."""
    wait_for_new_state(run_dir, newest_state(run_dir), *children)
    time.sleep(wait_seconds)
    for child in children:
        if child.exitcode is None and child.pid is not None:
            os.kill(child.pid, number)
    return finish(*children)


def results(run_dir: Path) -> tuple[bytes, list[tuple[float, ...]]]:
    """Return what every repetition of a run must share: the adapter, and the curve."""
    rows = read_metrics(run_dir / "metrics.csv")
    curve = [(row.step, row.epoch, row.lr, row.loss, row.grad_norm) for row in rows]
    return (run_dir / "adapter" / "adapter.safetensors").read_bytes(), curve
