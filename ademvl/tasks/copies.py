"""Finds files and folders of images in copies of a data set.

Which layouts are known stands in the `layout.py` or `copies.py` of each task.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ademvl.errors import DataError, list_findings

COCO_PREFIXES = ("", "data/", "coco/", "COCO/", "coco_caption/")
IMAGE_PREFIXES = ("", "images/")


def find_each(copies: Sequence[Path], names: dict[str, list[str]]) -> dict[str, Path]:
    """Return for each name the first of its paths that exists; names without one are left out."""
    return {key: path for key, relative in names.items() if (path := first_of(copies, relative))}


def first_of(copies: Iterable[Path], relative: Sequence[str]) -> Path | None:
    """Return the first of `relative` that exists, in the order of copies."""
    return next(
        (copy / name for copy in copies for name in relative if (copy / name).exists()), None
    )


def first_images(copies: Iterable[Path], relative: Sequence[str]) -> Path | None:
    """Return the first folder of images, else the first archive that holds such a folder."""
    copies = list(copies)
    return first_of(copies, relative) or first_of(copies, [f"{name}.zip" for name in relative])


def nothing_found(what: str, copies: Sequence[Path], looked_for: Sequence[str]) -> DataError:
    """Return the error that no known layout is in any copy, and what was looked for."""
    looked_at = ", ".join(map(str, copies)) or "nowhere"
    return DataError(
        list_findings(
            f"{looked_at}: {what} not found there; layouts looked for",
            looked_for,
            "Correct the key `existing` of the data set, or download it (docs/data.md).",
        )
    )
