"""Trainings in child processes of their own, which can be killed."""

import itertools
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from ademvl.runs.metrics import read_metrics
from ademvl.training.metrics import StepResult
from tests import tiny
from tests.waiting import Watched, finish, wait_until

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


def start(
    run_dir: Path, environ: Mapping[str, str] | None = None, *, most_steps: int | None = None
) -> BaseProcess:
    """Start a training in a child.

    Args:
        run_dir: directory of the run.
        environ: variables that make the child one of several processes.
        most_steps: after so many steps it waits until `signal_all` has sent a signal, so that one
            that is to be stopped has not ended before, however late the signal comes.
    """
    _word(run_dir).unlink(missing_ok=True)
    child = _CONTEXT.Process(target=_train, args=(run_dir, environ or {}, most_steps), daemon=True)
    child.start()
    return child


def start_several(run_dir: Path, count: int, *, most_steps: int | None = None) -> list[BaseProcess]:
    """Start the processes of one training, as a user's torchrun would."""
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    common["MASTER_PORT"] = str(free_port())
    return [
        start(
            run_dir, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, most_steps=most_steps
        )
        for rank in range(count)
    ]


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _train(run_dir: Path, environ: Mapping[str, str], most_steps: int | None) -> None:
    if most_steps is not None:
        _hold_after(most_steps, _word(run_dir))
    tiny.train_in_child(run_dir, environ)


def _hold_after(most_steps: int, word: Path) -> None:
    from ademvl.training.loop import Trainer

    take_step, num_steps = Trainer.step, itertools.count()

    def held_step(trainer: Trainer, step: int) -> StepResult:
        if next(num_steps) >= most_steps:
            _mark(word, os.getpid()).touch()
            wait_until(word.exists, "a signal was sent")
        return take_step(trainer, step)

    Trainer.step = held_step


def _word(run_dir: Path) -> Path:
    """Path of the file whose presence lets held children go on."""
    return run_dir.with_name(f"{run_dir.name}.signalled")


def _mark(word: Path, pid: int | None) -> Path:
    return word.with_suffix(f".{pid}-is-held")


def wait_until_held(run_dir: Path, *children: BaseProcess) -> None:
    """Wait until children have done all steps that they may do before a signal."""
    marks = [_mark(_word(run_dir), child.pid) for child in children]
    wait_until(
        lambda: all(mark.exists() for mark in marks), "all steps were done", processes=children
    )


def train(run_dir: Path, *, processes: int = 1) -> None:
    """Train to the end in one or several children."""
    children = start_several(run_dir, processes) if processes > 1 else [start(run_dir)]
    assert finish(*children) == [0] * processes


def newest_state(run_dir: Path) -> str:
    """Return the name of the newest state, empty without any."""
    return max((path.name for path in run_dir.glob("state/step-*.json")), default="")


def wait_for_new_state(run_dir: Path, before: str, *processes: Watched) -> None:
    """Wait until there is a state after `before`."""
    wait_until(lambda: newest_state(run_dir) > before, "a state was written", processes=processes)


def signal_all(run_dir: Path, children: list[BaseProcess], number: signal.Signals) -> None:
    """Send a signal to children of a run, and let those of its children go on that are held."""
    for child in children:
        assert child.pid is not None
        os.kill(child.pid, number)
    _word(run_dir).touch()


def interrupt(
    run_dir: Path, children: list[BaseProcess], number: signal.Signals, *, wait_seconds: float
) -> list[int]:
    """Send a signal to all children some time after a new state; return their exit codes."""
    wait_for_new_state(run_dir, newest_state(run_dir), *children)
    time.sleep(wait_seconds)  # chooses a moment, which may be any
    signal_all(run_dir, children, number)
    return finish(*children)


def results(run_dir: Path) -> tuple[bytes, list[tuple[float, ...]]]:
    """Return what every repetition of a run must share: the adapter, and the curve."""
    rows = read_metrics(run_dir / "metrics.csv")
    curve = [(row.step, row.epoch, row.lr, row.loss, row.grad_norm) for row in rows]
    return (run_dir / "adapter" / "adapter.safetensors").read_bytes(), curve
