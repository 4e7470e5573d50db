"""Images by path, unpacked or straight from a zip archive: one interface for both.

A folder may be replaced by an archive of its name that holds it: where
`images/train2014/COCO_1.jpg` does not exist but `images/train2014.zip` does, the entry
`train2014/COCO_1.jpg` of that archive is the image. So what passes paths around works with both.
"""

import errno
import os
import stat
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from ademvl.data.acquisition.zip_entries import ZipArchive
from ademvl.errors import DataError
from ademvl.storage.known_checksums import Stamp, file_stamp

_MAX_OPEN = 16


def find_archive(path: Path) -> tuple[Path, str] | None:
    """Return the archive that stands in for one of a path's folders, and the path's name in it.

    The outermost missing folder decides. None where no archive does.
    """
    missing = list(takewhile(lambda parent: not parent.is_dir(), path.parents))
    if not missing:
        return None
    folder = missing[-1]
    archive = folder.with_name(f"{folder.name}.zip")
    if not archive.is_file():
        return None
    return archive, path.relative_to(folder.parent).as_posix()


def read_image_bytes(path: Path) -> bytes:
    """Return the bytes of an image, from a file or from an archive in place of its folder.

    Safe in threads and in forked processes.

    Raises:
        FileNotFoundError: there is neither a file nor an archive with it.
        OSError: it cannot be read, or is a folder, pipe or device, of which none is waited for.
        DataError: the archive is damaged or hostile.
    """
    try:
        _require_regular(path.stat(), path)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        found = find_archive(path)
        if found is None:
            raise
    archive = open_archive(found[0])
    if found[1] not in archive.entries:
        raise _no_entry(path, found[0])
    return archive.read(found[1])


def image_stamp(path: Path) -> Stamp:
    """Return what tells that an image or its archive has changed, without reading it.

    Raises:
        FileNotFoundError: there is neither a file nor an archive in place of its folder.
    """
    try:
        return file_stamp(path)
    except (FileNotFoundError, NotADirectoryError):
        found = find_archive(path)
        if found is None:
            raise
    return file_stamp(found[0])


def image_size_bytes(path: Path) -> int:
    """Return the size of an image's file, without reading it.

    Raises:
        FileNotFoundError: there is neither a file nor an archive with it.
        OSError: it is a folder, pipe or device.
        DataError: the archive is damaged or hostile.
    """
    try:
        status = path.stat()
        _require_regular(status, path)
        return status.st_size
    except (FileNotFoundError, NotADirectoryError):
        found = find_archive(path)
        if found is None:
            raise
    entry = open_archive(found[0]).entries.get(found[1])
    if entry is None:
        raise _no_entry(path, found[0])
    return entry.size


def _require_regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "a folder, pipe or device, expected a file", str(path))


def _no_entry(path: Path, archive: Path) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"{archive} has no such entry", str(path))


def image_names(folder: Path) -> list[str]:
    """List the files below a folder, or below the archive in its place, sorted.

    Raises:
        DataError: there is neither folder nor archive, or the archive is damaged or hostile.
    """
    if folder.is_dir():
        return sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
    archive = folder.with_name(f"{folder.name}.zip")
    if not archive.is_file():
        raise DataError(f"{folder}: there is no such folder, and no {archive.name} in its place")
    prefix = f"{folder.name}/"
    return sorted(
        name.removeprefix(prefix)
        for name in open_archive(archive).entries
        if name.startswith(prefix)
    )


def open_archive(path: Path) -> ZipArchive:
    """Open an archive, or return the one that is open; opened anew when its file changed."""
    status = path.stat()
    return _opened(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(_MAX_OPEN)
def _opened(path: Path, inode: int, size: int, modified_ns: int) -> ZipArchive:
    return ZipArchive(path)
