"""The rows of metrics.csv once more, in logs that people watch: TensorBoard, Weights & Biases.

A log that fails is told once and left alone: no training ends for it, and metrics.csv has all rows.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from ademvl.config.optimization import LiveLog
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_plain
from ademvl.errors import ToolError
from ademvl.runs.metrics import MetricsRow

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """Takes numbers by name at a step."""

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take them."""

    def close(self) -> None:
        """Write what is left."""


class LiveLogs:
    """All logs that a run's `optimization.log_to` names.

    Args:
        run_dir: gets `tensorboard/` and `wandb/`.
        first_step: of this process, from 1; what earlier ones logged from there on is replaced.
    """

    def __init__(self, run: RunSettings, run_dir: Path, *, first_step: int) -> None:
        self._writers: dict[LiveLog, Writer] = {}
        for name in run.optimization.log_to:
            try:
                self._writers[name] = _WRITERS[name](run, run_dir, first_step)
            except Exception as error:
                _tell(name, error)

    def add(self, row: MetricsRow) -> None:
        """Log a row of metrics.csv."""
        numbers = asdict(row)
        del numbers["step"]
        for name, writer in list(self._writers.items()):
            try:
                writer.add(row.step, numbers)
            except Exception as error:
                _tell(name, error)
                del self._writers[name]

    def close(self) -> None:
        """Write what is left."""
        for name, writer in self._writers.items():
            try:
                writer.close()
            except Exception as error:
                _tell(name, error)
        self._writers = {}


def refuse_missing_logs(run: RunSettings) -> None:
    """Make sure that the packages of a run's logs are installed.

    Raises:
        ToolError: one is not.
    """
    for name in run.optimization.log_to:
        if find_spec(name) is None:
            raise ToolError(
                f"optimization.log_to: the package {name} is missing. Install it with "
                f"`pip install 'ademvl[{name}]'`, or leave it out."
            )


def _tell(name: str, error: Exception) -> None:
    _log.warning("%s takes no more of this training (%s); metrics.csv has all of it", name, error)


class _TensorBoard:
    def __init__(self, run: RunSettings, run_dir: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_step)

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """One run of W&B a seed; WANDB_MODE=offline keeps it in the run's directory."""

    def __init__(self, run: RunSettings, run_dir: Path, first_step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=run.study,
            group=run.name,
            name=f"{run.name}-seed{run.seed}",
            config=run_to_plain(run),
            dir=run_dir,
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("*", step_metric="optimiser_step")

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({"optimiser_step": step, **numbers})

    def close(self) -> None:
        self._run.finish()


_WRITERS: Mapping[LiveLog, Callable[[RunSettings, Path, int], Writer]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
}
