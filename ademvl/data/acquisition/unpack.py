"""Unpacks archives into <shared_dir>/unpacked/<source>, safely and restartably.

Each entry is written aside, checked, and renamed: what stands there under its final name is whole.
A killed run goes on where it was; entries that stand there already are read and compared by CRC.
`.complete.json` is written last.
"""

import os
import shutil
import threading
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from ademvl.data.acquisition.part_file import write_error
from ademvl.data.acquisition.records import read_marker
from ademvl.data.acquisition.zip_entries import ZipArchive, ZipEntry
from ademvl.errors import DataError
from ademvl.storage.byte_sizes import format_bytes
from ademvl.storage.files import write_json
from ademvl.storage.locks import lock_file

MARKER = ".complete.json"
_ASIDE = ".unfinished"
_WORKERS = 4
_CHUNK_BYTES = 1 << 20
_SPARE_BYTES = 64 << 20


def is_unpacked(folder: Path, archives: Mapping[str, str]) -> bool:
    """Say whether exactly these archives (name -> SHA-256) were unpacked in `folder`, or more."""
    marker = read_marker(folder / MARKER)
    done = marker.get("archives") if marker else None
    if not isinstance(done, dict):
        return False
    return all(done.get(name, {}).get("sha256") == sha256 for name, sha256 in archives.items())


def unpack_archives(
    folder: Path,
    archives: Mapping[Path, str],
    sha256: Mapping[str, str],
    *,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Unpack archives; does nothing where they are unpacked already.

    Args:
        folder: <shared_dir>/unpacked/<source>.
        archives: folder inside `folder` for each archive.
        sha256: of each archive by its name, for the marker.
        on_bytes: told how many bytes were written or found written.

    Raises:
        DataError: an archive is damaged or hostile (names the entry), or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder.parent / f".{folder.name}.lock"), ExitStack() as stack:
        if is_unpacked(folder, sha256):
            return
        opened = {path: stack.enter_context(ZipArchive(path)) for path in archives}
        _check_room(folder, opened, archives)
        (folder / MARKER).unlink(missing_ok=True)
        shutil.rmtree(folder / _ASIDE, ignore_errors=True)
        (folder / _ASIDE).mkdir()
        for path, archive in opened.items():
            _unpack(archive, folder / archives[path], folder / _ASIDE, on_bytes)
        shutil.rmtree(folder / _ASIDE)
        os.sync()  # one wait for all files in place of one for each of 123,000
        write_json(folder / MARKER, _marker(opened, sha256))


def _marker(archives: Mapping[Path, ZipArchive], sha256: Mapping[str, str]) -> dict[str, object]:
    each = {
        path.name: {
            "sha256": sha256[path.name],
            "files": len(archive.entries),
            "bytes": archive.total_bytes,
        }
        for path, archive in archives.items()
    }
    return {
        "archives": each,
        "files": sum(len(archive.entries) for archive in archives.values()),
        "bytes": sum(archive.total_bytes for archive in archives.values()),
    }


def _check_room(
    folder: Path, archives: Mapping[Path, ZipArchive], folders: Mapping[Path, str]
) -> None:
    """Refuse to start what cannot end: entries are counted that do not stand there yet."""
    needed = sum(
        entry.size
        for path, archive in archives.items()
        for entry in archive.entries.values()
        if not (folder / folders[path] / entry.name).exists()
    )
    free = shutil.disk_usage(folder).free
    if needed + _SPARE_BYTES > free and needed:
        raise DataError(
            f"{folder}: {format_bytes(needed)} are to be unpacked, {format_bytes(free)} are free. "
            "Free some space, set shared_dir to a larger disk, or set downloads.unpack to false "
            "to read images straight from their archives."
        )


def _unpack(
    archive: ZipArchive, folder: Path, aside: Path, on_bytes: Callable[[int], None]
) -> None:
    for parent in sorted({(folder / name).parent for name in archive.entries}):
        parent.mkdir(parents=True, exist_ok=True)
        if not parent.resolve().is_relative_to(folder.parent.resolve()):
            raise DataError(f"{parent}: leads out of {folder}; remove the link that does so")
    failed = threading.Event()

    def unpack_one(entry: ZipEntry) -> None:
        if failed.is_set():
            return
        try:
            _unpack_entry(archive, entry, folder / entry.name, aside)
        except BaseException:
            failed.set()
            raise
        on_bytes(entry.size)

    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for _ in pool.map(unpack_one, archive.entries.values()):
                pass
        except BaseException:
            failed.set()
            raise


def _unpack_entry(archive: ZipArchive, entry: ZipEntry, path: Path, aside: Path) -> None:
    if _stands_there(path, entry):
        return
    temporary = aside / f"{threading.get_ident()}"
    try:
        with temporary.open("wb") as stream:
            for chunk in archive.chunks(entry):
                stream.write(chunk)
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error, then="what is unpacked stays") from error


def _stands_there(path: Path, entry: ZipEntry) -> bool:
    try:
        if path.is_symlink() or path.stat().st_size != entry.size:
            return False
        crc = 0
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                crc = zlib.crc32(chunk, crc)
    except OSError:
        return False
    return crc == entry.crc
