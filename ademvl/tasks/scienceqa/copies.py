"""Finds ScienceQA in the layouts that are in use.

Known are those of the official repository, of LaVIN, ADEM-VL and MemVP, of the Hugging Face export,
and this project's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ademvl.errors import DataError, list_findings
from ademvl.tasks.copies import first_images, first_of, nothing_found

_PREFIXES = ("", "data/", "data/scienceqa/", "scienceqa/", "ScienceQA/", "data/ScienceQA/")
_PROBLEM_NAMES = ("problems.json", "problem.json")
_EXPORT_SPLITS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class ScienceQAParts:
    """Where the parts of a ScienceQA copy lie.

    Attributes:
        layout: its name, for manifest and messages.
        problems, splits: JSON files.
        captions: JSON file, None where there is none.
        image_folders: by split: a folder, or the archive that holds it; splits without are not in
            it.
    """

    layout: str
    problems: Path
    splits: Path
    captions: Path | None
    image_folders: dict[str, Path]


@dataclass(frozen=True)
class ExportParts:
    """Parquet files of the Hugging Face export of ScienceQA, by split, each list in order.

    `problems` is the official file that gives the ids, None where it does not lie beside them.
    """

    files: dict[str, list[Path]]
    problems: Path | None


def find_scienceqa(copies: Sequence[Path]) -> ScienceQAParts | ExportParts:
    """Find ScienceQA; the first copy with problems decides, others may complete it with images.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    problems = first_of(copies, [prefix + name for name in _PROBLEM_NAMES for prefix in _PREFIXES])
    is_official = problems is not None and (problems.parent / "pid_splits.json").exists()
    exported = {} if is_official else _find_export(copies)
    if problems is None and not exported:
        raise nothing_found(
            "ScienceQA",
            copies,
            [
                "official repository: data/scienceqa/problems.json, or problems.json",
                "LaVIN, ADEM-VL, MemVP: problems.json or problem.json, with images/train below",
                "Hugging Face export: train-*.parquet, validation-*.parquet, test-*.parquet, or "
                "train/0000.parquet, ..., here, in data/ or default/, or so in one folder below",
            ],
        )
    if exported:
        beside = [folder for files in exported.values() for folder in files[0].parents[:3]]
        return ExportParts(exported, problems or first_of(beside, _PROBLEM_NAMES))
    assert problems is not None
    home = problems.parent
    captions = first_of([home, home.parent, *copies], ["captions.json"])
    roots = [home, *copies]
    inside = [prefix + images for prefix in _PREFIXES for images in ("images/", "")]
    folders = {
        split: folder
        for split in ("train", "val", "test")
        if (folder := first_images(roots, [f"{prefix}{split}" for prefix in inside]))
    }
    name = "LaVIN, ADEM-VL" if problems.name == "problem.json" else "official"
    return ScienceQAParts(name, problems, home / "pid_splits.json", captions, folders)


def _find_export(copies: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the parquet files of each split, in the first copy or folder below it with any.

    Raises:
        DataError: several folders of a copy hold an export.
    """
    for copy in copies:
        if found := _export_in(copy):
            return found
        below = {
            folder: found
            for folder in sorted(copy.iterdir())
            if folder.is_dir() and (found := _export_in(folder))
        }
        if len(below) > 1:
            listed = [str(folder) for folder in below]
            headline = f"{copy}: holds several folders of parquet files"
            raise DataError(list_findings(headline, listed, "Name one under the key `existing`."))
        if below:
            return next(iter(below.values()))
    return {}


def _export_in(folder: Path) -> dict[str, list[Path]]:
    for part in ("", "data", "default"):
        found = {
            split: files
            for name, split in _EXPORT_SPLITS.items()
            if (files := _parquet_files(folder / part, name))
        }
        if found:
            return found
    return {}


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """Return a split's files: as published, or as the Hub converts data sets of any form."""
    patterns = (f"{split}-*.parquet", f"{split}/*.parquet")
    found = (sorted(path for path in folder.glob(p) if path.is_file()) for p in patterns)
    return next(filter(None, found), [])
