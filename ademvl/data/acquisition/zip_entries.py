"""Zip archives read without trust: the list of entries is checked, each entry's bytes too.

The list comes from zipfile; the bytes are inflated here, because an entry that holds more than it
declares must be refused, where zipfile silently stops at the declared size. Reads share no file
position, so that threads (and forked processes) may use one archive together.
"""

import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from ademvl.errors import DataError, list_findings
from ademvl.storage.stand_ins import refuse_stand_in

MAX_RATIO = 200
"""Declared bytes for each byte of the archive beyond which it is taken for a bomb: photos have a
ratio near 1, JSON below 20; deflate cannot pass 1,032."""

_CHUNK_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_UTF8_NAME = 0x800
_DRIVE = re.compile(r"[A-Za-z]:")
_REMEDY = "The archive is not to be trusted: nothing of it is used. Remove it and get it again."


@dataclass(frozen=True)
class ZipEntry:
    """A file in an archive.

    Attributes:
        name: path in the archive, relative, with forward slashes.
        size: bytes that it declares.
        stored_size: bytes that it takes in the archive.
        method: 0 stored, 8 deflated.
        crc: CRC-32 of its bytes.
        offset: of its local header.
        raw_name: bytes of the name in the archive.
    """

    name: str
    size: int
    stored_size: int
    method: int
    crc: int
    offset: int
    raw_name: bytes


class ZipArchive:
    """An open archive whose list of entries was checked.

    Args:
        path: zip file.

    Raises:
        DataError: the file is missing, truncated or no zip archive; or it holds entries that would
            land outside their folder, links, devices, encrypted or unreadable ones, names twice, or
            more bytes than an honest archive of its size can. Names the entries.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        infos = _read_list(path)
        if findings := _findings(infos, path.stat().st_size):
            headline = f"{path}: refused"
            raise DataError(list_findings(headline, findings, _REMEDY))
        self.entries = {
            info.filename: _entry(info) for info in infos if not info.filename.endswith("/")
        }
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the archive; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    @property
    def total_bytes(self) -> int:
        """Bytes of all entries, as declared."""
        return sum(entry.size for entry in self.entries.values())

    def read(self, name: str) -> bytes:
        """Return an entry's bytes.

        Raises:
            DataError: no such entry, or it is damaged.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise DataError(f"{self.path}: has no entry {name!r}")
        return b"".join(self.chunks(entry))

    def chunks(self, entry: ZipEntry) -> Iterator[bytes]:
        """Yield an entry's bytes, checked against its declared size and CRC at the end.

        Raises:
            DataError: the entry is truncated, damaged, or holds more bytes than it declares.
        """
        size = crc = 0
        try:
            for chunk in self._inflated(entry):
                size += len(chunk)
                if size > entry.size:
                    raise _damaged(self.path, entry, f"holds more than its {entry.size} bytes")
                crc = zlib.crc32(chunk, crc)
                yield chunk
        except zlib.error as error:
            raise _damaged(self.path, entry, f"does not inflate ({error})") from error
        if size < entry.size:
            raise _damaged(self.path, entry, f"has {size} bytes of {entry.size}")
        if crc != entry.crc:
            raise _damaged(self.path, entry, "its checksum (CRC-32) is wrong")

    def _inflated(self, entry: ZipEntry) -> Iterator[bytes]:
        start, end = self._stored_range(entry)
        inflate = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method else None
        for place in range(start, end, _CHUNK_BYTES):
            stored = os.pread(self._descriptor, min(_CHUNK_BYTES, end - place), place)
            if not stored:
                raise _damaged(self.path, entry, "the archive ends in it")
            if inflate is None:
                yield stored
                continue
            # In bounded pieces: a few stored bytes may inflate to a thousand times as many.
            yield inflate.decompress(stored, _CHUNK_BYTES)
            while inflate.unconsumed_tail:
                yield inflate.decompress(inflate.unconsumed_tail, _CHUNK_BYTES)
        if inflate is not None:
            while rest := inflate.decompress(b"", _CHUNK_BYTES):
                yield rest
            if not inflate.eof:
                raise _damaged(self.path, entry, "is cut off")

    def _stored_range(self, entry: ZipEntry) -> tuple[int, int]:
        header = os.pread(self._descriptor, _LOCAL_HEADER.size, entry.offset)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(_LOCAL_MAGIC):
            raise _damaged(self.path, entry, "has no header where the archive's list says")
        *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        name = os.pread(self._descriptor, name_length, entry.offset + len(header))
        if name != entry.raw_name:
            raise _damaged(self.path, entry, f"is called {name!r} in its own header")
        start = entry.offset + len(header) + name_length + extra_length
        return start, start + entry.stored_size


def _read_list(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        refuse_stand_in(path, expected="a zip archive", error=DataError)
        raise DataError(
            f"{path}: truncated, or no zip archive ({error}). Remove it and get it again."
        ) from error


def _entry(info: zipfile.ZipInfo) -> ZipEntry:
    encoding = "utf-8" if info.flag_bits & _UTF8_NAME else "cp437"
    return ZipEntry(
        name=info.filename,
        size=info.file_size,
        stored_size=info.compress_size,
        method=info.compress_type,
        crc=info.CRC,
        offset=info.header_offset,
        raw_name=info.orig_filename.encode(encoding),
    )


def _findings(infos: Sequence[zipfile.ZipInfo], archive_bytes: int) -> list[str]:
    findings = [f"{i.orig_filename!r}: {fault}" for i in infos if (fault := _fault(i))]
    findings += [f"{name!r}: occurs twice" for name in _repeated(infos)]
    findings += [f"{name!r}: is a file and a folder" for name in _files_that_are_folders(infos)]
    findings += [f"{name!r}: overlaps the entry before it" for name in _overlapping(infos)]
    total = sum(info.file_size for info in infos)
    if total > MAX_RATIO * archive_bytes:
        largest = max(infos, key=lambda info: info.file_size)
        findings.append(
            f"{largest.orig_filename!r}: {largest.file_size} of {total} declared bytes in an "
            f"archive of {archive_bytes} bytes"
        )
    return findings


def _fault(info: zipfile.ZipInfo) -> str:
    """Say what is wrong with one entry of the list; empty when nothing is."""
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not name.strip("/ ") or "\\" in name or any(unicodedata.category(c) == "Cc" for c in name):
        return "no usable name"
    if name.startswith("/") or _DRIVE.match(name):
        return "absolute path"
    if any(part in ("..", ".", "") for part in name.removesuffix("/").split("/")):
        return "path that leaves its folder, or is not in plain form"
    if kind == stat.S_IFLNK:
        return "symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "neither file nor folder"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    if info.compress_type not in _METHODS:
        return f"compressed by method {info.compress_type}, which is not supported"
    return ""


def _repeated(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    seen: set[str] = set()
    repeated = []
    for info in infos:
        name = info.orig_filename.removesuffix("/")
        if name in seen:
            repeated.append(name)
        seen.add(name)
    return repeated


def _files_that_are_folders(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    folders = {
        str(parent) for info in infos for parent in PurePosixPath(info.orig_filename).parents
    }
    return [i.orig_filename for i in infos if not i.is_dir() and i.orig_filename in folders]


def _overlapping(infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Entries that share bytes: how a small archive declares far more than it can hold."""
    found, end = [], 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            found.append(info.orig_filename)
        end = info.header_offset + _LOCAL_HEADER.size + info.compress_size
    return found


def _damaged(path: Path, entry: ZipEntry, what: str) -> DataError:
    return DataError(f"{path}: entry {entry.name!r} {what}. {_REMEDY}")
