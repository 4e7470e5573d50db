"""The part of a file that has arrived so far: survives kills, grows, is hashed on the way."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ademvl.errors import DataError
from ademvl.storage.byte_sizes import format_bytes
from ademvl.storage.files import DISK_FULL, write_json

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class PartOrigin:
    """Where a part came from, to go on only with bytes of the same file.

    Attributes:
        url: address.
        validator: strong ETag or Last-Modified, empty where the server gave none.
        total_bytes: size of the whole file, 0 where unknown.
        md5: of the whole file as the server states it, empty where it does not.
    """

    url: str = ""
    validator: str = ""
    total_bytes: int = 0
    md5: str = ""


class PartFile:
    """A `<name>.part` file that is appended to, with MD5 and SHA-256 of its bytes.

    Use as a context manager: bytes of earlier attempts are read once, to go on with their hashes.

    Args:
        path: of the part; its origin stands beside it in `<path>.json`.
        on_bytes: told how many bytes came, negative when some are dropped.

    Raises:
        DataError: the disk is full; what has arrived stays.
    """

    def __init__(self, path: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.path = path
        self._origin_path = path.with_name(f"{path.name}.json")
        self._on_bytes = on_bytes
        self._size = 0
        self.origin = PartOrigin()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.origin = self._read_origin()
        self._reset_hashes()
        self._stream = self.path.open("ab+", buffering=0)
        self._stream.seek(0)
        while chunk := self._stream.read(_CHUNK_BYTES):
            self._count(chunk)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self._size

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of what has arrived."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        """Hex MD5 of what has arrived."""
        return self._md5.hexdigest()

    def append(self, chunk: bytes) -> None:
        """Write bytes to the end of the part."""
        view = memoryview(chunk)
        try:
            while view:
                written = self._stream.write(view)
                self._count(view[:written])
                self._on_bytes(written)
                view = view[written:]
        except OSError as error:
            raise self._write_error(error) from error

    def note_origin(self, origin: PartOrigin) -> None:
        """Keep where the bytes come from, for a later attempt."""
        if origin != self.origin:
            write_json(self._origin_path, asdict(origin))
            self.origin = origin

    def restart(self) -> None:
        """Drop all bytes."""
        self._on_bytes(-self._size)
        self._stream.truncate(0)
        self._reset_hashes()

    def flush_to_disk(self) -> None:
        """Wait until the bytes are on the disk."""
        os.fsync(self._stream.fileno())

    def discard(self) -> None:
        """Remove the part and its origin."""
        self._on_bytes(-self._size)
        self._size = 0
        self.path.unlink(missing_ok=True)
        self._origin_path.unlink(missing_ok=True)

    def move_to(self, path: Path) -> None:
        """Give the part its final name; its origin is not needed any more."""
        self.path.replace(path)
        self._origin_path.unlink(missing_ok=True)

    def _count(self, chunk: bytes | memoryview) -> None:
        self._md5.update(chunk)
        self._sha256.update(chunk)
        self._size += len(chunk)

    def _reset_hashes(self) -> None:
        self._size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def _read_origin(self) -> PartOrigin:
        try:
            return PartOrigin(**json.loads(self._origin_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return PartOrigin()  # none, or of another version: bytes are then not trusted

    def _write_error(self, error: OSError) -> DataError:
        return write_error(self.path, error, then="what has arrived is kept")


def write_error(path: Path, error: OSError, *, then: str) -> DataError:
    """Return the error for a failed write, with the room that is left when the disk is full."""
    if error.errno in DISK_FULL:
        free = format_bytes(shutil.disk_usage(path.parent).free)
        return DataError(
            f"{path}: the disk is full ({free} free); {then}. Free some space and run the same "
            "command again: it goes on from there."
        )
    return DataError(f"{path}: cannot be written ({error.strerror}); {then}.")
