"""Checksums of files that were read before: a file is read again only where it has changed.

They are kept in one list beside the files, which may be deleted at any time. A file counts as
unchanged while its size, its times and its place on the disk are; the time of its last change
(ctime) is among them, which copying tools do not put back.
"""

import contextlib
import os
import time
from pathlib import Path

from ademvl.errors import AdemvlError, DataError
from ademvl.storage.files import read_json, write_json

_SETTLED_NS = 2 * 10**9
"""Times of files come in steps: what changed a moment ago could change again within one."""

Stamp = tuple[int, ...]


def file_stamp(path: Path) -> Stamp:
    """Return what tells that a file has changed, without reading it.

    Raises:
        OSError: there is no such file.
    """
    status = path.stat()
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def is_settled(stamp: Stamp) -> bool:
    """Whether the file's last change is so long ago that another one would show in its stamp."""
    return max(stamp[1:3]) + _SETTLED_NS < time.time_ns()


class KnownChecksums:
    """The list of one folder.

    Args:
        path: of the list; where it cannot be read or written, all is read anew each time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        self._has_changed = False
        with contextlib.suppress(DataError):
            found = read_json(path, remedy="It is written anew.") if path.is_file() else {}
            self._known = found if isinstance(found, dict) else {}

    def find(self, path: Path, stamp: Stamp) -> str | None:
        """Return the checksum that a file had with this stamp; None where it is not known."""
        entry = self._known.get(self._name(path))
        if isinstance(entry, list) and entry[:-1] == list(stamp):
            return str(entry[-1])
        return None

    def add(self, path: Path, stamp: Stamp, checksum: str) -> None:
        """Note a file's checksum, unless it has changed within the last seconds."""
        if is_settled(stamp):
            self._known[self._name(path)] = [*stamp, checksum]
            self._has_changed = True

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._path.parent)

    def save(self) -> None:
        """Write the list if anything was added, and if the folder may be written to."""
        if self._has_changed:
            with contextlib.suppress(OSError, AdemvlError):
                write_json(self._path, self._known)
