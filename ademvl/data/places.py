"""Finds the parts of a data set in folders whose layout is one of those that are in use.

Known are the layouts of the official repositories and archives, of LaVIN, ADEM-VL and MemVP, of the
Hugging Face export of ScienceQA, and this project's own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ademvl.errors import DataError, list_findings

_PREFIXES = ("", "data/", "data/scienceqa/", "scienceqa/", "ScienceQA/", "data/ScienceQA/")
_PROBLEM_NAMES = ("problems.json", "problem.json")
_EXPORT_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_COCO_PREFIXES = ("", "data/", "coco/", "COCO/", "coco_caption/")
_IMAGE_PREFIXES = ("", "images/")
_FLAT = "all"  # name of a folder that holds the images of all splits
_ANNOTATION_PREFIXES = ("", "annotations/", "karpathy/", "annotations/karpathy/")
_MME_PREFIXES = (
    *("", "MME_Benchmark_release_version/", "MME_Benchmark_release_version/MME_Benchmark/"),
    *("MME_Benchmark/", "mme/", "data/MME_Benchmark_release_version/"),
)


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


@dataclass(frozen=True)
class CaptionParts:
    """Where the parts of a COCO copy lie.

    Attributes:
        image_folders: by name, such as `train2014`: a folder, or the archive that holds it.
        karpathy: by name, such as `train` or `val_gt`: files of BLIP's form.
        combined: Karpathy's own `dataset_coco.json`, None where there is none.
        annotations: by name of the image folder: COCO's own captions.
    """

    image_folders: dict[str, Path]
    karpathy: dict[str, Path]
    combined: Path | None
    annotations: dict[str, Path]


def find_scienceqa(places: Sequence[Path]) -> ScienceQAParts | ExportParts:
    """Find ScienceQA; the first place with problems decides, others may complete it with images.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    problems = _first(places, [prefix + name for name in _PROBLEM_NAMES for prefix in _PREFIXES])
    is_official = problems is not None and (problems.parent / "pid_splits.json").exists()
    exported = {} if is_official else _find_export(places)
    if problems is None and not exported:
        raise _nothing_found(
            "ScienceQA",
            places,
            [
                "official repository: data/scienceqa/problems.json, or problems.json",
                "LaVIN, ADEM-VL, MemVP: problems.json or problem.json, with images/train below",
                "Hugging Face export: train-*.parquet, validation-*.parquet, test-*.parquet, or "
                "train/0000.parquet, ..., here, in data/ or default/, or so in one folder below",
            ],
        )
    if exported:
        beside = [folder for files in exported.values() for folder in files[0].parents[:3]]
        return ExportParts(exported, problems or _first(beside, _PROBLEM_NAMES))
    assert problems is not None
    home = problems.parent
    captions = _first([home, home.parent, *places], ["captions.json"])
    roots = [home, *places]
    inside = [prefix + images for prefix in _PREFIXES for images in ("images/", "")]
    folders = {
        split: folder
        for split in ("train", "val", "test")
        if (folder := _first_images(roots, [f"{prefix}{split}" for prefix in inside]))
    }
    name = "LaVIN, ADEM-VL" if problems.name == "problem.json" else "official"
    return ScienceQAParts(name, problems, home / "pid_splits.json", captions, folders)


def _find_export(places: Sequence[Path]) -> dict[str, list[Path]]:
    """Return the parquet files of each split, in the first place or folder below it with any.

    Raises:
        DataError: several folders of a place hold an export.
    """
    for place in places:
        if found := _export_in(place):
            return found
        below = {
            folder: found
            for folder in sorted(place.iterdir())
            if folder.is_dir() and (found := _export_in(folder))
        }
        if len(below) > 1:
            listed = [str(folder) for folder in below]
            headline = f"{place}: holds several folders of parquet files"
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


def find_captions(places: Sequence[Path]) -> CaptionParts:
    """Find COCO images, Karpathy files and COCO's own captions, each in the first place with it.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    years = [f"{split}{year}" for split in ("train", "val") for year in (2014, 2017)]
    prefixes = [outer + inner for outer in _COCO_PREFIXES for inner in _IMAGE_PREFIXES]
    files = [outer + inner for outer in _COCO_PREFIXES for inner in _ANNOTATION_PREFIXES]
    image_folders = {
        name: folder
        for name in years
        if (folder := _first_images(places, [prefix + name for prefix in prefixes]))
    }
    if not image_folders and (folder := _flat_images(places, prefixes)):
        image_folders = {_FLAT: folder}
    karpathy = _find_each(
        places,
        {
            name: [f"{prefix}coco_karpathy_{name}.json" for prefix in files]
            for name in ("train", "val", "test", "val_gt", "test_gt")
        },
    )
    annotations = _find_each(
        places, {name: [f"{prefix}captions_{name}.json" for prefix in files] for name in years}
    )
    combined = _first(places, [f"{prefix}dataset_coco.json" for prefix in files])
    if not image_folders:
        raise _nothing_found(
            "COCO captions",
            places,
            [
                "COCO: train2014, val2014 (or 2017), or images/train2014, with annotations/ beside",
                "all images (*.jpg) in one folder, here or in images/",
                "Karpathy splits: coco_karpathy_{train,val,test}.json or dataset_coco.json",
            ],
        )
    return CaptionParts(image_folders, karpathy, combined, annotations)


def _flat_images(places: Sequence[Path], relative: Sequence[str]) -> Path | None:
    """Return the first folder that holds JPEG files itself."""
    folders = (place / name for place in places for name in relative)
    return next((folder for folder in folders if any(folder.glob("*.jpg"))), None)


def find_instructions(places: Sequence[Path]) -> tuple[Path, Path | None]:
    """Find LaVIN's `all_data.json`, and the folder with COCO's train2014 images if there is one.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    found = _first(places, ["all_data.json", "data/all_data.json", "instruction/all_data.json"])
    if found is None:
        raise _nothing_found(
            "LaVIN's instruction data",
            places,
            ["LaVIN, ADEM-VL: all_data.json or data/all_data.json, with images/train2014"],
        )
    inside = [outer + inner for outer in _COCO_PREFIXES for inner in _IMAGE_PREFIXES]
    images = [f"{prefix}train2014" for prefix in inside] + ["cocoimages/train"]
    return found, _first_images([found.parent, *places], images)


def find_mme(places: Sequence[Path]) -> Path:
    """Find the folder that holds MME's categories.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    found = _first(places, [f"{prefix}existence" for prefix in _MME_PREFIXES])
    if found is None:
        looked_for = "the benchmark's archive: MME_Benchmark_release_version/existence, ..."
        raise _nothing_found("MME", places, [looked_for])
    return found.parent


def _find_each(places: Sequence[Path], names: dict[str, list[str]]) -> dict[str, Path]:
    return {key: path for key, relative in names.items() if (path := _first(places, relative))}


def _first(places: Iterable[Path], relative: Sequence[str]) -> Path | None:
    """Return the first of `relative` that exists, in the order of places."""
    return next(
        (place / name for place in places for name in relative if (place / name).exists()), None
    )


def _first_images(places: Iterable[Path], relative: Sequence[str]) -> Path | None:
    """Return the first folder of images, else the first archive that holds such a folder."""
    places = list(places)
    return _first(places, relative) or _first(places, [f"{name}.zip" for name in relative])


def _nothing_found(what: str, places: Sequence[Path], looked_for: Sequence[str]) -> DataError:
    looked_at = ", ".join(map(str, places)) or "nowhere"
    return DataError(
        list_findings(
            f"{looked_at}: {what} not found there; layouts looked for",
            looked_for,
            "Correct the key `existing` of the data set, or download it (docs/data.md).",
        )
    )
