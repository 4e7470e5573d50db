"""Prediction files: written as predictions come, resumed after a kill, never reused when stale.

While predictions come they are appended to `<task>.partial.jsonl`; the complete file is renamed to
`<task>.jsonl`. `<task>.header.json` holds what the lines were computed from (adapter checksum,
settings, data); lines under another header are discarded.
"""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ademvl.errors import DataError, ToolError
from ademvl.storage.files import read_json, write_json

Row = dict[str, object]

_log = logging.getLogger(__name__)


class PredictionLog:
    """The predictions of one run for one task: one JSON line an item, id first, in data set order.

    Args:
        folder: the run's `predictions` folder.
        task: stem of the file names.
        header: what the predictions depend on; JSON values only.
        item_ids: of all items, in data set order; the `id` of each line.
    """

    def __init__(
        self, folder: Path, task: str, *, header: Mapping[str, object], item_ids: Sequence[str]
    ) -> None:
        self.path = folder / f"{task}.jsonl"
        self._partial = folder / f"{task}.partial.jsonl"
        self._header_path = folder / f"{task}.header.json"
        self._header = json.loads(json.dumps(header))
        self._item_ids = item_ids

    def read_complete(self) -> list[Row] | None:
        """Return all predictions if they are there, belong to the header and are undamaged."""
        if not (self.path.is_file() and self._header_is_current()):
            return None
        rows, num_bytes = self._valid_rows(self.path)
        if len(rows) == len(self._item_ids) and num_bytes == self.path.stat().st_size:
            return rows
        _log.warning("%s: does not hold one line for each item; predicting again", self.path)
        return None

    def fill(
        self,
        predict: Callable[[range], Sequence[Row]],
        *,
        batch_size: int,
        on_items: Callable[[int], object] | None = None,
    ) -> list[Row]:
        """Predict what is missing, and return all predictions once the file is complete.

        Batches always start at multiples of `batch_size`, so that a resumed run computes the
        same batches as an uninterrupted one.

        Args:
            predict: gives the rows of a range of items, in order.
            batch_size: items a call.
            on_items: told how many items are done, at the start and after each batch.

        Raises:
            ToolError: another process is writing the same file.
        """
        self._discard_stale()
        with self._locked_partial() as stream:
            rows, _ = self._valid_rows(self._partial)
            rows = rows[: len(rows) - len(rows) % batch_size]
            stream.truncate(sum(len(_line(row)) for row in rows))
            stream.seek(0, os.SEEK_END)
            if on_items:
                on_items(len(rows))
            for start in range(len(rows), len(self._item_ids), batch_size):
                items = range(start, min(start + batch_size, len(self._item_ids)))
                predicted = predict(items)
                self._check(predicted, items)
                stream.write(b"".join(map(_line, predicted)))
                stream.flush()
                rows.extend(predicted)
                if on_items:
                    on_items(len(predicted))
            os.fsync(stream.fileno())
            self._partial.replace(self.path)
        return rows

    def _header_is_current(self) -> bool:
        try:
            found: object = read_json(self._header_path, remedy="It is written anew.")
        except DataError:
            return False
        return bool(found == self._header)

    def _discard_stale(self) -> None:
        """Remove the complete file, and lines of another header; then write the header."""
        self.path.unlink(missing_ok=True)
        if not self._header_is_current():
            self._partial.unlink(missing_ok=True)
            write_json(self._header_path, self._header)

    @contextmanager
    def _locked_partial(self) -> Iterator[BinaryIO]:
        """Open the partial file for writing; the kernel releases the lock with the process."""
        with self._partial.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ToolError(
                    f"{self._partial}: another process is writing these predictions. "
                    "Wait for it, or end it."
                ) from error
            yield stream

    def _valid_rows(self, path: Path) -> tuple[list[Row], int]:
        """Return the leading lines that are whole and in order, and their size in bytes."""
        rows: list[Row] = []
        num_bytes = 0
        with path.open("rb") as stream:
            for line, item_id in zip(stream, self._item_ids, strict=False):
                row = _parse(line)
                if row is None or row.get("id") != item_id or _line(row) != line:
                    break
                rows.append(row)
                num_bytes += len(line)
        return rows, num_bytes

    def _check(self, predicted: Sequence[Row], items: range) -> None:
        expected = [self._item_ids[item] for item in items]
        if [row["id"] for row in predicted] != expected:
            raise ValueError("predict did not return one row for each item, in order")


def _line(row: Row) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _parse(line: bytes) -> Row | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
