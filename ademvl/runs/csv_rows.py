"""Reading the tables that a training writes: one header, and numbers in every row."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ademvl.errors import DataError

_Row = TypeVar("_Row")
_REMEDY = "Delete the run's directory and train again."


def read_rows(
    path: Path, columns: Sequence[str], row_of: Callable[[Sequence[str]], _Row]
) -> list[_Row]:
    """Read a CSV file.

    Args:
        columns: that its header has to name, in this order.
        row_of: makes a row of its values, or raises ValueError, IndexError or TypeError.

    Raises:
        DataError: missing file, other columns, or a row that cannot be made.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}). {_REMEDY}") from error
    if header != list(columns):
        raise DataError(f"{path}: columns are {header}, expected {list(columns)}. {_REMEDY}")
    try:
        return [row_of(row) for row in rows]
    except (ValueError, IndexError, TypeError) as error:
        raise DataError(f"{path}: a row is malformed ({error}). {_REMEDY}") from error
