"""Turns the Hugging Face export of ScienceQA (derek-thomas/ScienceQA, parquet) into its own layout.

The export has no question ids. Where the official `problems.json` lies beside it, each row gets the
id of the official problem with the same text; rows that agree in every text get theirs in order.
Without it a row's id is its split and place, such as `val_17`: the same in every conversion, but
unknown to captions, to published predictions and to LaVIN's files.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ademvl.data.places import ExportParts
from ademvl.data.scienceqa import SPLITS, read_object
from ademvl.errors import DataError, ToolError, list_findings
from ademvl.storage.files import write_bytes, write_json

_FIELDS = (
    *("question", "choices", "answer", "hint", "task", "grade"),
    *("subject", "topic", "category", "skill", "lecture", "solution"),
)
_COLUMNS = (*_FIELDS, "image")
_BATCH_ROWS = 256
_REMEDY = "Download the export again."


def convert_export(parts: ExportParts, folder: Path) -> str:
    """Write `problems.json`, `pid_splits.json` and `images/` below `folder`.

    Returns:
        Where the ids come from, for the manifest.

    Raises:
        ToolError: pyarrow is missing.
        DataError: a split is missing, a file is damaged, or a row is not among the official
            problems.
    """
    missing = [name for name in SPLITS if name not in parts.files]
    if missing:
        raise DataError(f"export of ScienceQA: no parquet file of {', '.join(missing)}. {_REMEDY}")
    official = _OfficialIds(read_object(parts.problems)) if parts.problems else None
    problems: dict[str, Any] = {}
    splits: dict[str, list[str]] = {}
    strangers: list[str] = []
    for split in SPLITS:
        splits[split] = []
        for number, row in enumerate(_rows(parts.files[split])):
            question_id = official.take(split, row) if official else f"{split}_{number}"
            if question_id is None:
                strangers.append(f"{split} row {number}: {row['question']!r}")
                continue
            image = row.pop("image")
            content = image and image.get("bytes")
            problems[question_id] = {
                **row,
                "image": "image.png" if content else None,
                "split": split,
            }
            splits[split].append(question_id)
            if content:
                write_bytes(folder / "images" / split / question_id / "image.png", content)
    if strangers:
        headline = f"{parts.problems}: rows of the export that are not among its problems"
        raise DataError(list_findings(headline, strangers, "Remove that file, or correct it."))
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", splits)
    return "official problems.json" if official else "split and row"


class _OfficialIds:
    """Ids of official problems by what the export holds of them."""

    def __init__(self, problems: Mapping[str, Any]) -> None:
        self._ids: dict[str, deque[str]] = defaultdict(deque)
        for question_id, problem in problems.items():
            if isinstance(problem, dict):
                key = _signature(str(problem.get("split")), problem)
                self._ids[key].append(question_id)

    def take(self, split: str, row: Mapping[str, Any]) -> str | None:
        """Return the next id of a problem with the row's text; None when there is none left."""
        ids = self._ids.get(_signature(split, row))
        return ids.popleft() if ids else None


def _signature(split: str, problem: Mapping[str, Any]) -> str:
    return repr((split, bool(problem.get("image")), [problem.get(name) for name in _FIELDS]))


def _rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the rows of parquet files, a few hundred in memory at a time."""
    try:
        import pyarrow.parquet
        from pyarrow import ArrowException
    except ImportError as error:
        raise ToolError(
            "The package pyarrow, which reads the Hugging Face export, is missing. "
            "Install it with `pip install 'ademvl[parquet]'`."
        ) from error
    for path in paths:
        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                absent = [name for name in _COLUMNS if name not in table.schema_arrow.names]
                if absent:
                    raise DataError(f"{path}: no column {', '.join(absent)}. {_REMEDY}")
                for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=list(_COLUMNS)):
                    yield from batch.to_pylist()
        except (ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable parquet file ({error}). {_REMEDY}") from error
