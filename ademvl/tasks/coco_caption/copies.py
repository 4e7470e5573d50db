"""Finds COCO's images and captions in the layouts that are in use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ademvl.tasks.copies import (
    COCO_PREFIXES,
    IMAGE_PREFIXES,
    find_each,
    first_images,
    first_of,
    nothing_found,
)

_FLAT = "all"  # name of a folder that holds the images of all splits
_ANNOTATION_PREFIXES = ("", "annotations/", "karpathy/", "annotations/karpathy/")


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


def find_captions(copies: Sequence[Path]) -> CaptionParts:
    """Find COCO images, Karpathy files and COCO's own captions, each in the first copy with it.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    years = [f"{split}{year}" for split in ("train", "val") for year in (2014, 2017)]
    prefixes = [outer + inner for outer in COCO_PREFIXES for inner in IMAGE_PREFIXES]
    files = [outer + inner for outer in COCO_PREFIXES for inner in _ANNOTATION_PREFIXES]
    image_folders = {
        name: folder
        for name in years
        if (folder := first_images(copies, [prefix + name for prefix in prefixes]))
    }
    if not image_folders and (folder := _flat_images(copies, prefixes)):
        image_folders = {_FLAT: folder}
    karpathy = find_each(
        copies,
        {
            name: [f"{prefix}coco_karpathy_{name}.json" for prefix in files]
            for name in ("train", "val", "test", "val_gt", "test_gt")
        },
    )
    annotations = find_each(
        copies, {name: [f"{prefix}captions_{name}.json" for prefix in files] for name in years}
    )
    combined = first_of(copies, [f"{prefix}dataset_coco.json" for prefix in files])
    if not image_folders:
        raise nothing_found(
            "COCO captions",
            copies,
            [
                "COCO: train2014, val2014 (or 2017), or images/train2014, with annotations/ beside",
                "all images (*.jpg) in one folder, here or in images/",
                "Karpathy splits: coco_karpathy_{train,val,test}.json or dataset_coco.json",
            ],
        )
    return CaptionParts(image_folders, karpathy, combined, annotations)


def _flat_images(copies: Sequence[Path], relative: Sequence[str]) -> Path | None:
    """Return the first folder that holds JPEG files itself."""
    folders = (copy / name for copy in copies for name in relative)
    return next((folder for folder in folders if any(folder.glob("*.jpg"))), None)
