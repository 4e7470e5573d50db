"""metrics.csv: one row for every few optimiser steps, without gaps or repeats after a resume."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

from ademvl.machine.usage import peak_gpu_memory_mib, peak_memory_mib
from ademvl.runs.metrics import HEADER, MetricsRow
from ademvl.storage.files import write_text
from ademvl.training.guard import Outcome


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step did.

    Attributes:
        step: number of steps done, this one included.
        epoch: epochs done, with fraction.
        lr: learning rate in force.
        loss: of the effective batch.
        grad_norm: L2 norm over all gradients; nan where the loss is not finite.
        num_items, num_tokens: of the effective batch; padding is not counted.
        outcome: whether the parameters moved, or why not.
    """

    step: int
    epoch: float
    lr: float
    loss: float
    grad_norm: float
    num_items: int
    num_tokens: int
    outcome: Outcome = "updated"


class MetricsLog:
    """Averages steps into rows and appends these to metrics.csv.

    Rows and the open average travel with the resumable state too, and the file starts from there
    after a resume: rows written after that state, half a line, or a deleted file do no harm.

    Args:
        path: of metrics.csv.
        interval_steps: steps of one row; the last row of a run may have fewer.
        record: what `to_record` gave at the state to go on from; None starts anew.
        also: takes each new row.
    """

    def __init__(
        self,
        path: Path,
        *,
        interval_steps: int,
        record: Mapping[str, Any] | None = None,
        also: Callable[[MetricsRow], None] | None = None,
    ) -> None:
        self._path = path
        self._interval_steps = interval_steps
        self._also = also
        self._rows = [MetricsRow(*values) for values in record["rows"]] if record else []
        self._sums = _Sums(**record["sums"]) if record else _Sums()
        self._num_items = self._num_tokens = 0
        self._since = time.monotonic()
        self.write()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    def add(self, result: StepResult, *, is_last: bool) -> None:
        """Take in one step, and append a row when its interval is full."""
        self._sums.add(result)
        self._num_items += result.num_items
        self._num_tokens += result.num_tokens
        if result.step % self._interval_steps == 0 or is_last:
            self._append(self._close_row(result))

    def to_record(self) -> dict[str, Any]:
        """Return all rows and the open average as plain JSON."""
        return {"rows": [astuple(row) for row in self._rows], "sums": asdict(self._sums)}

    def write(self) -> None:
        """Write the whole file anew, atomically."""
        write_text(self._path, HEADER + "".join(row.to_line() for row in self._rows))

    def close(self) -> None:
        """Stop appending."""
        os.close(self._descriptor)

    def _close_row(self, result: StepResult) -> MetricsRow:
        sums, self._sums = self._sums, _Sums()
        items, tokens = self._num_items, self._num_tokens
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        self._num_items, self._num_tokens, self._since = 0, 0, now
        return MetricsRow(
            step=result.step,
            epoch=result.epoch,
            lr=result.lr,
            loss=sums.loss / sums.num_losses if sums.num_losses else nan,
            grad_norm=sums.grad_norm / sums.num_norms if sums.num_norms else nan,
            skipped_steps=sums.skipped_steps,
            overflow_steps=sums.overflow_steps,
            items_per_second=round(items / seconds, 2),
            tokens_per_second=round(tokens / seconds, 1),
            memory_mib=round(peak_gpu_memory_mib() or peak_memory_mib(), 1),
        )

    def _append(self, row: MetricsRow) -> None:
        self._rows.append(row)
        # One write, so that readers see whole lines only.
        os.write(self._descriptor, row.to_line().encode())
        if self._also:
            self._also(row)


@dataclass
class _Sums:
    num_losses: int = 0
    num_norms: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    skipped_steps: int = 0
    overflow_steps: int = 0

    def add(self, result: StepResult) -> None:
        if isfinite(result.loss):
            self.num_losses += 1
            self.loss += result.loss
        if isfinite(result.grad_norm):
            self.num_norms += 1
            self.grad_norm += result.grad_norm
        self.skipped_steps += result.outcome == "not_finite"
        self.overflow_steps += result.outcome == "overflow"
