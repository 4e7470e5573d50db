"""Whole folders that appear complete or not at all."""

import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ademvl.errors import DataError
from ademvl.storage.locks import lock_file, try_lock_file
from ademvl.storage.outputs import followed

_SUFFIX = ".unfinished"
_LOCK = ".lock"
_SNAKEMAKES = ".snakemake_timestamp"  # in each folder that is a rule's output


@contextmanager
def folder_built_aside(folder: Path, *, entries: Collection[str]) -> Iterator[Path]:
    """Yield a hidden folder beside `folder`, moved there when the block ends without error.

    What killed processes left behind is removed first. An earlier result is replaced; where
    `folder` is a link, in the place that it leads to.

    Args:
        folder: must not exist, be empty, or hold nothing but `entries`.
        entries: names of everything that a finished folder holds.

    Raises:
        DataError: `folder` is a file or holds something else, which is left untouched; or a link
            that leads nowhere.
    """
    folder = followed(folder.absolute())
    _refuse_foreign(folder, entries)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    aside = _sibling(folder)
    aside.mkdir()
    lock = aside / _LOCK
    try:
        with lock_file(lock):
            yield aside
            lock.unlink()
            _replace(folder, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _refuse_foreign(folder: Path, entries: Collection[str]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file; a folder is to be written there. Name another one.")
    known = {*entries, _SNAKEMAKES}
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in known)
    if foreign:
        raise DataError(
            f"{folder}: holds {foreign[0]!r}, which was not written here, and would be replaced. "
            "Name an empty folder, or move that away."
        )


def _sibling(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{_SUFFIX}")


def _remove_abandoned(folder: Path) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*{_SUFFIX}"):
        try:
            lock = try_lock_file(leftover / _LOCK, create=False)
        except FileNotFoundError:
            pass  # killed before it took the lock
        else:
            if lock is None:
                continue  # its process lives
            lock.release()
        shutil.rmtree(leftover, ignore_errors=True)


def _replace(folder: Path, aside: Path) -> None:
    """Rename, with an earlier folder out of the way first: rename needs an empty target."""
    if folder.exists():
        earlier = _sibling(folder)
        folder.rename(earlier)
        aside.rename(folder)
        shutil.rmtree(earlier)
    else:
        aside.rename(folder)
