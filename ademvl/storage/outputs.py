"""Where output goes: what stands under its name decides how it is written.

A link is followed, so that the file it leads to is replaced and the link stays. A device or a pipe
cannot be replaced without taking it from every other process, so it is written to.
"""

import os
import shutil
import stat
import sys
from pathlib import Path

from ademvl.errors import DataError


def place_of_file(path: Path) -> Path:
    """Return the path that a file is written to: that of what links lead to.

    Raises:
        DataError: it is a folder, or a link that leads nowhere.
    """
    place = followed(path)
    if place.is_dir():
        raise DataError(f"{path}: is a folder; a file is to be written. Name a file in it.")
    return place


def followed(path: Path) -> Path:
    """Return what links lead to, which need not exist; any other path as it is.

    Raises:
        DataError: links that lead in a circle, or into a folder that does not exist.
    """
    if not path.is_symlink():
        return path
    if _is_named(path):  # such as /dev/stdout, where it leads to a pipe
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise DataError(f"{path}: is a link that leads in a circle. Remove it.")
    if not target.parent.is_dir():
        raise DataError(
            f"{path}: is a link to {target}, whose folder does not exist. Make that folder, or "
            "remove the link."
        )
    return target


def _is_named(path: Path) -> bool:
    """Whether a link leads to something without a name in a folder, or to an open file."""
    return path.exists() and (_standard_stream(path) is not None or not _is_replaceable(path))


def _is_replaceable(path: Path) -> bool:
    mode = path.stat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def is_stream(path: Path) -> bool:
    """Whether a path is to be written to and not replaced: a device, a pipe, or standard output."""
    return path.exists() and (not _is_replaceable(path) or _standard_stream(path) is not None)


def write_to_stream(path: Path, content: Path) -> None:
    """Write a file's bytes to a device, a pipe or standard output; a pipe waits for its reader."""
    descriptor = _standard_stream(path)
    if descriptor is None:
        opened = os.open(path, os.O_WRONLY)
    else:  # opened anew, a file there would be written from its beginning
        sys.stdout.flush()
        sys.stderr.flush()
        opened = os.dup(descriptor)
    with os.fdopen(opened, "wb") as stream, content.open("rb") as source:
        shutil.copyfileobj(source, stream)


def is_standard_output(path: Path) -> bool:
    """Whether what is written there goes to standard output."""
    return path.exists() and _standard_stream(path) == 1


def _standard_stream(path: Path) -> int | None:
    """Return the descriptor of standard output or error that a path stands for, if it does."""
    found = path.stat()
    for descriptor in (1, 2):
        try:
            if os.path.samestat(found, os.fstat(descriptor)):
                return descriptor
        except OSError:
            pass  # closed
    return None
