"""The rows of kept.csv: which share of the image tokens text tokens kept, by epoch."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ademvl.runs.csv_rows import read_rows
from ademvl.storage.files import write_text

MEASURED_ITEMS = 16
"""Items of the training split that are measured, the first with an image."""


@dataclass(frozen=True)
class KeptRow:
    """One row of kept.csv: of a layer over all text tokens, or of a word over all layers.

    Attributes:
        epoch: epochs done, with fraction; 0 is before the first step.
        layer: counted from 0; -1 in a row of a word.
        word: a token as the tokenizer has it; empty in a row of a layer.
        kept_fraction: of the image tokens, as in evaluation.
        tokens: text tokens that this is the mean of.
    """

    epoch: float
    layer: int
    word: str
    kept_fraction: float
    tokens: int


COLUMNS = tuple(field.name for field in fields(KeptRow))


def write_kept(path: Path, rows: Iterable[KeptRow]) -> None:
    """Write kept.csv whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(astuple, rows))
    write_text(path, text.getvalue())


def read_kept(path: Path) -> list[KeptRow]:
    """Read kept.csv.

    Raises:
        DataError: missing file, other columns, or a value that is no number.
    """
    return read_rows(path, COLUMNS, _row)


def _row(values: Sequence[str]) -> KeptRow:
    epoch, layer, word, kept, tokens = values
    return KeptRow(float(epoch), int(layer), word, float(kept), int(tokens))
