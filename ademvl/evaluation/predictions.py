"""Prediction files: written as predictions come, resumed after a kill, never reused when stale.

While predictions come they are appended to `<task>.partial.jsonl`, batch by batch; once all are
there they are written to `<task>.jsonl` in data set order. `<task>.header.json` holds what the
lines were computed from (adapter checksum, settings, data); lines under another header are
discarded. Once the file is complete, the header has a seal over itself and all lines: what somebody
changed by hand is predicted again. Lines that are made ahead, by the process that trained, stay in
the partial file, under a seal of their own.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ademvl.errors import DataError, ToolError
from ademvl.storage.files import (
    dump_json,
    explained_disk_full,
    read_json,
    sha256_file,
    write_bytes,
    write_json,
)
from ademvl.storage.locks import try_lock_file
from ademvl.tasks.base import Row

SEAL = "seal"
_SEAL_AHEAD = "seal_ahead"
_WRITTEN_ANEW = "It is written anew."

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
        self.task = task
        self.path = folder / f"{task}.jsonl"
        self._partial = folder / f"{task}.partial.jsonl"
        self._header = json.loads(json.dumps(header))
        self._item_ids = item_ids

    def read_complete(self) -> list[Row] | None:
        """Return all predictions if they are there, belong to the header and are undamaged."""
        if not (self.path.is_file() and self._header_is_current()):
            return None
        if not is_sealed(self.path):
            _log.warning("%s: changed since it was made; predicting again", self.path)
            return None
        rows, num_bytes = _valid_rows(self.path, self._item_ids)
        if len(rows) == len(self._item_ids) and num_bytes == self.path.stat().st_size:
            return rows
        _log.warning("%s: does not hold one line for each item; predicting again", self.path)
        return None

    @contextmanager
    def filling(
        self, batches: Sequence[Sequence[int]], *, ahead: bool = False
    ) -> Iterator["Filling"]:
        """Give the batches that are missing, and take their rows; then complete the file.

        After a kill the batches that were predicted whole are kept, as far as they are the same;
        so are those that were made ahead.

        Args:
            batches: items that are predicted together; each item in one of them.
            ahead: leave all lines in the partial file, from which the next call completes the file.

        Raises:
            ToolError: another process is writing the same file.
        """
        self._discard_stale()
        with self._locked_partial() as stream:
            filling = Filling(stream, self._item_ids, batches, self._kept_batches(stream, batches))
            yield filling
            self._complete(filling.rows(), ahead=ahead)

    def _complete(self, rows: Sequence[Row], *, ahead: bool) -> None:
        if ahead:
            seal = seal_of(self._header, self._partial)
            write_json(header_file(self.path), {**self._header, _SEAL_AHEAD: seal})
            return
        content = b"".join(map(_line, rows))
        seal = _seal(self._header, hashlib.sha256(content).hexdigest())
        write_json(header_file(self.path), {**self._header, SEAL: seal})
        write_bytes(self.path, content)
        self._partial.unlink()

    def _kept_batches(
        self, stream: BinaryIO, batches: Sequence[Sequence[int]]
    ) -> list[Sequence[Row]]:
        """Return the rows of the leading batches that are there whole, and cut off the rest."""
        item_ids = [self._item_ids[item] for items in batches for item in items]
        rows, _ = _valid_rows(self._partial, item_ids)
        found: list[Sequence[Row]] = []
        start = 0
        for items in batches:
            if start + len(items) > len(rows):
                break
            found.append(rows[start : start + len(items)])
            start += len(items)
        stream.truncate(sum(len(_line(row)) for row in rows[:start]))
        stream.seek(0, os.SEEK_END)
        return found

    def _header_is_current(self) -> bool:
        try:
            return read_header(self.path) == self._header
        except DataError:
            return False

    def _discard_stale(self) -> None:
        """Remove the complete file, and lines of another header; then write the header."""
        self.path.unlink(missing_ok=True)
        is_current = self._header_is_current()
        seal = _read_sealed_header(self.path).get(_SEAL_AHEAD) if is_current else None
        if seal and self._partial.is_file() and seal != seal_of(self._header, self._partial):
            _log.warning("%s: changed since it was made; predicting again", self._partial)
            is_current = False
        if not is_current:
            self._partial.unlink(missing_ok=True)
        if seal or not is_current:
            write_json(header_file(self.path), self._header)

    @contextmanager
    def _locked_partial(self) -> Iterator[BinaryIO]:
        """Open the partial file for writing; the kernel releases the lock with the process.

        Nothing is left of it where the block ends with an error before the first rows.
        """
        lock = try_lock_file(self._partial)
        if lock is None:
            raise ToolError(
                f"{self._partial}: another process is writing these predictions. "
                "Wait for it, or end it."
            )
        with lock, explained_disk_full(self._partial), self._partial.open("ab") as stream:
            try:
                yield stream
            finally:
                if stream.tell() == 0:
                    self._partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class Filling:
    """Predictions while they are made.

    Attributes:
        stream: of the partial file.
        item_ids: of all items, in data set order.
        batches: of all items.
        found: rows of the leading batches: those that were there, then those appended.
    """

    stream: BinaryIO
    item_ids: Sequence[str]
    batches: Sequence[Sequence[int]]
    found: list[Sequence[Row]]

    @property
    def missing(self) -> Sequence[Sequence[int]]:
        """Batches that are left to be predicted, in order."""
        return self.batches[len(self.found) :]

    @property
    def num_found(self) -> int:
        """How many items are there."""
        return sum(map(len, self.found))

    def append(self, rows: Sequence[Row]) -> None:
        """Keep the rows of the first batch that is missing.

        Raises:
            ValueError: they are not one for each of its items, in order.
        """
        expected = [self.item_ids[item] for item in self.missing[0]]
        if [row["id"] for row in rows] != expected:
            raise ValueError("expected one row for each item of the batch, in order")
        self.stream.write(b"".join(map(_line, rows)))
        self.stream.flush()
        self.found.append(rows)

    def rows(self) -> list[Row]:
        """Return all rows in data set order, once none is missing."""
        of_item = {
            item: row
            for items, rows in zip(self.batches, self.found, strict=True)
            for item, row in zip(items, rows, strict=True)
        }
        return [of_item[item] for item in range(len(self.item_ids))]


def _valid_rows(path: Path, item_ids: Sequence[str]) -> tuple[list[Row], int]:
    """Return the leading lines that are whole and of these items, and their size in bytes."""
    rows: list[Row] = []
    num_bytes = 0
    with path.open("rb") as stream:
        for line, item_id in zip(stream, item_ids, strict=False):
            row = _parse(line)
            if row is None or row.get("id") != item_id or _line(row) != line:
                break
            rows.append(row)
            num_bytes += len(line)
    return rows, num_bytes


def header_file(path: Path) -> Path:
    """Return the file that says what predictions were made from."""
    return path.with_suffix(".header.json")


def read_header(path: Path) -> Row:
    """Return what predictions depend on, without seals.

    Raises:
        DataError: no header there, or a malformed one.
    """
    seals = (SEAL, _SEAL_AHEAD)
    return {key: value for key, value in _read_sealed_header(path).items() if key not in seals}


def _read_sealed_header(path: Path) -> Row:
    found = read_json(header_file(path), remedy=_WRITTEN_ANEW)
    if not isinstance(found, dict):
        raise DataError(f"{header_file(path)}: expected an object. {_WRITTEN_ANEW}")
    return found


def is_sealed(path: Path) -> bool:
    """Tell whether predictions and their header are as they were written.

    Raises:
        DataError: no header there, or a malformed one.
    """
    seal = _read_sealed_header(path).get(SEAL)
    return bool(seal == seal_of(read_header(path), path))


def seal_of(header: Mapping[str, object], path: Path) -> str:
    """Return the checksum of predictions and of what made them."""
    return _seal(header, sha256_file(path))


def _seal(header: Mapping[str, object], rows_sha256: str) -> str:
    return hashlib.sha256(dump_json([header, rows_sha256]).encode()).hexdigest()


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
