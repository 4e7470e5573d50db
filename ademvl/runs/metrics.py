"""The rows of metrics.csv: what they hold, written and read."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ademvl.runs.csv_rows import read_rows


@dataclass(frozen=True)
class MetricsRow:
    """One row of metrics.csv.

    The first seven columns are the same in every repetition of a run; the others are measured.

    Attributes:
        step: optimiser steps done.
        epoch: epochs done, with fraction.
        lr: learning rate of the last step.
        loss: mean over the steps since the row before; those without a finite one do not count,
            and nan stands for no such step at all.
        grad_norm: L2 norm over all gradients, mean likewise.
        skipped_steps: left out since the row before, because loss or gradient was not finite.
        overflow_steps: left out since the row before, because the loss scale of fp16 was too high.
        items_per_second: since the row before.
        tokens_per_second: tokens of the sequences, padding not counted.
        memory_mib: peak so far, of the GPU where one is used, else of the process.
    """

    step: int
    epoch: float
    lr: float
    loss: float
    grad_norm: float
    skipped_steps: int
    overflow_steps: int
    items_per_second: float
    tokens_per_second: float
    memory_mib: float

    def to_line(self) -> str:
        """Render the row as one line of CSV; numbers read back exactly."""
        return ",".join(map(repr, astuple(self))) + "\n"


COLUMNS = tuple(field.name for field in fields(MetricsRow))
HEADER = ",".join(COLUMNS) + "\n"


def read_metrics(path: Path) -> list[MetricsRow]:
    """Read metrics.csv.

    Raises:
        DataError: missing file, other columns, or a value that is no number.
    """
    return read_rows(path, COLUMNS, _row)


def _row(values: Sequence[str]) -> MetricsRow:
    step, epoch, lr, loss, grad_norm, skipped, overflow, items, tokens, memory = values
    return MetricsRow(
        step=int(step),
        epoch=float(epoch),
        lr=float(lr),
        loss=float(loss),
        grad_norm=float(grad_norm),
        skipped_steps=int(skipped),
        overflow_steps=int(overflow),
        items_per_second=float(items),
        tokens_per_second=float(tokens),
        memory_mib=float(memory),
    )
