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

from ademvl.errors import DataError, ToolError, list_findings
from ademvl.storage.files import write_bytes, write_json
from ademvl.storage.stand_ins import refuse_stand_in
from ademvl.tasks.scienceqa.copies import ExportParts
from ademvl.tasks.scienceqa.reader import SPLITS, read_object

_FIELDS = (
    *("question", "choices", "answer", "hint", "task", "grade"),
    *("subject", "topic", "category", "skill", "lecture", "solution"),
)
_COLUMNS = (*_FIELDS, "image")
_BATCH_ROWS = 256
_REMEDY = "Download the export again."
_EMBED = (
    "Their images are not in the parquet files, and nothing is converted. Download the export from "
    "the Hub, or write it again with them (`Dataset.to_parquet` of datasets embeds images)."
)


def convert_export(parts: ExportParts, folder: Path) -> str:
    """Write `problems.json`, `pid_splits.json` and `images/` below `folder`.

    Returns:
        Where the ids come from, for the manifest.

    Raises:
        ToolError: pyarrow is missing.
        DataError: a split is missing, a file is damaged or has columns of other types, a row names
            an image that is not in the file, or is not among the official problems.
    """
    missing = [name for name in SPLITS if name not in parts.files]
    if missing:
        raise DataError(f"export of ScienceQA: no parquet file of {', '.join(missing)}. {_REMEDY}")
    official = _OfficialIds(read_object(parts.problems)) if parts.problems else None
    problems: dict[str, Any] = {}
    splits: dict[str, list[str]] = {}
    strangers: list[str] = []
    unembedded: list[str] = []
    for split in SPLITS:
        splits[split] = []
        for number, row in enumerate(_rows(parts.files[split])):
            content, path = _image_of(row["image"])
            row["image"] = content or path
            question_id = official.take(split, row) if official else f"{split}_{number}"
            if question_id is None:
                strangers.append(f"{split} row {number}: {row['question']!r}")
                continue
            if path and not content:
                unembedded.append(f"{split} row {number}: {path}")
            problems[question_id] = {
                **row,
                "image": "image.png" if content else None,
                "split": split,
            }
            splits[split].append(question_id)
            if content:
                write_bytes(folder / "images" / split / question_id / "image.png", content)
    if unembedded:
        headline = f"{parts.files['train'][0].parent}: rows with the path of an image in its place"
        raise DataError(list_findings(headline, unembedded, _EMBED))
    if strangers:
        headline = f"{parts.problems}: rows of the export that are not among its problems"
        raise DataError(list_findings(headline, strangers, "Remove that file, or correct it."))
    write_json(folder / "problems.json", problems)
    write_json(folder / "pid_splits.json", splits)
    return "official problems.json" if official else "split and row"


def _image_of(value: Mapping[str, Any] | bytes | str | None) -> tuple[bytes, str]:
    """Return the bytes of a row's image, and the path in their place; both empty without one."""
    if value is None:
        return b"", ""
    if isinstance(value, bytes):
        return value, "" if value else "no bytes"
    if isinstance(value, str):
        return b"", value
    return value.get("bytes") or b"", value.get("path") or ""


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
        refuse_stand_in(path, expected="a parquet file", error=DataError)
        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                if findings := list(_column_findings(table.schema_arrow)):
                    headline = f"{path}: not as in the export of ScienceQA"
                    raise DataError(list_findings(headline, findings, _REMEDY))
                for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=list(_COLUMNS)):
                    yield from batch.to_pylist()
        except (ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: not a readable parquet file ({error}). {_REMEDY}") from error


def _column_findings(schema: Any) -> Iterator[str]:
    """Say which columns are missing, or of a type that is not read."""
    from pyarrow import types

    def is_text(kind: Any) -> bool:
        return bool(types.is_dictionary(kind) and is_text(kind.value_type)) or any(
            check(kind) for check in (types.is_string, types.is_large_string, types.is_string_view)
        )

    def is_binary(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def is_image(kind: Any) -> bool:
        """Whether it holds bytes or paths; the rows tell those without bytes."""
        if types.is_struct(kind):
            parts = {field.name: field.type for field in kind}
            return bool({"bytes", "path"} & parts.keys()) and all(
                is_image(parts[name]) for name in ("bytes", "path") if name in parts
            )
        return is_binary(kind) or is_text(kind) or bool(types.is_null(kind))

    def is_texts(kind: Any) -> bool:
        return bool(types.is_list(kind) or types.is_large_list(kind)) and is_text(kind.value_type)

    expected = dict.fromkeys(_FIELDS, (is_text, "texts")) | {
        "choices": (is_texts, "lists of texts"),
        "answer": (types.is_integer, "whole numbers"),
        "image": (is_image, "bytes, alone or beside a path"),
    }
    for name, (is_right, wanted) in expected.items():
        if schema.names.count(name) != 1:
            yield f"column {name}: {'missing' if name not in schema.names else 'there twice'}"
        elif not is_right(kind := schema.field(name).type):
            yield f"column {name}: is {kind}, expected {wanted}"
