"""metrics.csv: one row for every few optimiser steps, without gaps or repeats after a resume."""

import csv
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ademvl.errors import DataError
from ademvl.files import write_text


@dataclass(frozen=True)
class MetricsRow:
    """One row of metrics.csv.

    The first five columns are the same in every repetition of a run; the others are measured.

    Attributes:
        step: optimiser steps done.
        epoch: epochs done, with fraction.
        lr: learning rate of the last step.
        loss: mean over the steps since the row before.
        grad_norm: L2 norm over all gradients, mean over the steps since the row before.
        items_per_second: since the row before.
        tokens_per_second: tokens of the sequences, padding not counted.
        memory_mib: peak so far, of the GPU where one is used, else of the process.
    """

    step: int
    epoch: float
    lr: float
    loss: float
    grad_norm: float
    items_per_second: float
    tokens_per_second: float
    memory_mib: float

    def to_line(self) -> str:
        """Render the row as one line of CSV; numbers read back exactly."""
        return ",".join(map(repr, astuple(self))) + "\n"


COLUMNS = tuple(field.name for field in fields(MetricsRow))
_HEADER = ",".join(COLUMNS) + "\n"


def read_metrics(path: Path) -> list[MetricsRow]:
    """Read metrics.csv.

    Raises:
        DataError: missing file, other columns, or a value that is no number.
    """
    remedy = "Delete the run's directory and train again."
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). {remedy}") from error
    if tuple(header) != COLUMNS:
        raise DataError(f"{path}: columns are {header}, expected {list(COLUMNS)}. {remedy}")
    try:
        return [MetricsRow(int(row[0]), *map(float, row[1:])) for row in rows]
    except (ValueError, IndexError, TypeError) as error:
        raise DataError(f"{path}: a row is malformed ({error}). {remedy}") from error


class MetricsLog:
    """Appends rows to metrics.csv.

    The rows travel with the resumable state too, so the file starts from there after a resume:
    rows written after that state, half a line, or a deleted file do no harm.
    """

    def __init__(self, path: Path, rows: Iterable[MetricsRow] = ()) -> None:
        self._rows = list(rows)
        write_text(path, _HEADER + "".join(row.to_line() for row in self._rows))
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)

    @property
    def rows(self) -> tuple[MetricsRow, ...]:
        """All rows so far."""
        return tuple(self._rows)

    def append(self, row: MetricsRow) -> None:
        """Append one row in a single write, so that readers see whole lines only."""
        self._rows.append(row)
        os.write(self._descriptor, row.to_line().encode())

    def close(self) -> None:
        """Flush the file to disk and close it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
