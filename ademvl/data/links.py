"""Puts files and folders of a data set into another place without copying, where that works.

A symbolic link comes first, because one serves a folder of 100,000 images; then hard links, then
copies.
"""

import os
import shutil
from pathlib import Path

from ademvl.storage.files import write_json


class Linker:
    """Links into a tree that is built aside and renamed once it is complete.

    Args:
        base: links between two places below it are relative, so that it can be moved as a whole;
            links out of it are absolute.
    """

    def __init__(self, base: Path) -> None:
        self._base = base.resolve()
        self.num_copied = 0

    def place(self, source: Path, target: Path) -> None:
        """Make `target` show the file or folder `source`.

        Raises:
            OSError: not even copying works.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        source = source.resolve()
        try:
            target.symlink_to(self._link_text(source, target))
        except OSError:
            self._place_without_symlinks(source, target)

    def _link_text(self, source: Path, target: Path) -> str:
        if not source.is_relative_to(self._base):
            return str(source)
        return os.path.relpath(source, target.parent.resolve())

    def _place_without_symlinks(self, source: Path, target: Path) -> None:
        if not source.is_dir():
            self._place_file(source, target)
            return
        for folder, _, names in os.walk(source):
            below = target / Path(folder).relative_to(source)
            below.mkdir(parents=True, exist_ok=True)
            for name in names:
                self._place_file(Path(folder, name), below / name)

    def _place_file(self, source: Path, target: Path) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
            self.num_copied += 1


def write_json_in_tree(path: Path, value: object) -> None:
    """Write a file of a linked tree; a link in its place goes, what it led to stays as it is."""
    if path.is_symlink():
        path.unlink()
    write_json(path, value)
