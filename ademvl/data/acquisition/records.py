"""What is known of the files in a folder of downloads: `recorded.json`, one entry a file.

A file whose size and time of change are those of its entry was verified and is not read again. The
SHA-256 of a file without a known checksum stays when the file goes: a later download must match it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ademvl.errors import DataError
from ademvl.storage.files import read_json, write_json
from ademvl.storage.locks import lock_file

_NAME = "recorded.json"
_REMEDY = "Delete it: all files are then verified anew."


@dataclass(frozen=True)
class FileRecord:
    """A verified file.

    Attributes:
        sha256: of its bytes.
        bytes: its size.
        modified_ns: its time of change when it was verified.
        url: where it came from; `placed by hand` for a file that was found there.
    """

    sha256: str
    bytes: int
    modified_ns: int
    url: str


class Records:
    """The records of one folder; safe for several threads and processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / _NAME

    def read(self) -> dict[str, FileRecord]:
        """Return all records by file name.

        Raises:
            DataError: the file is malformed.
        """
        if not self._path.exists():
            return {}
        raw = read_json(self._path, remedy=_REMEDY)
        try:
            return {name: FileRecord(**record) for name, record in raw.items()}
        except (AttributeError, TypeError) as error:
            raise DataError(f"{self._path}: no records of downloads. {_REMEDY}") from error

    def of(self, name: str) -> FileRecord | None:
        """Return the record of a file, None where there is none."""
        return self.read().get(name)

    def is_verified(self, name: str) -> bool:
        """Say whether a file is there, unchanged since it was verified."""
        record = self.of(name)
        try:
            status = (self.folder / name).stat()
        except OSError:
            return False
        return record is not None and (record.bytes, record.modified_ns) == (
            status.st_size,
            status.st_mtime_ns,
        )

    def add(self, name: str, *, sha256: str, url: str) -> None:
        """Record a file that was verified just now."""
        status = (self.folder / name).stat()
        record = FileRecord(sha256, status.st_size, status.st_mtime_ns, url)
        with lock_file(self.folder / f".{_NAME}.lock"):
            records = self.read() | {name: record}
            write_json(self._path, {key: asdict(value) for key, value in records.items()})


def marker_content(records: dict[str, FileRecord]) -> dict[str, object]:
    """Return what a finished source's marker says: the same for the same files."""
    return {
        "files": {name: {"bytes": r.bytes, "sha256": r.sha256} for name, r in records.items()},
        "bytes": sum(record.bytes for record in records.values()),
    }


def read_marker(path: Path) -> dict[str, object] | None:
    """Return a marker's content, None where it is missing or unreadable, so that work is redone."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
