"""Makes caption files in BLIP's form from other forms: Karpathy's own, or COCO's annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ademvl.errors import DataError
from ademvl.storage.files import read_json, write_json
from ademvl.tasks.coco_caption.coco_images import CocoImages
from ademvl.tasks.coco_caption.reader import karpathy_file, last_number

_REMEDY = "Download the file again."
_SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""Karpathy's train split is COCO's train images and those of val that are in no other split."""

IMAGE_FOLDERS = ("train2014", "val2014")
"""Folders by which the splits name their images."""


@dataclass(frozen=True)
class _CaptionedFile:
    """An image below `images/` with its captions as published."""

    image: str
    image_id: int
    captions: Sequence[tuple[int, str]]  # id of the caption, text


def split_combined(path: Path, root: Path, images: CocoImages) -> None:
    """Write the files of all splits from `dataset_coco.json`, in its order.

    Raises:
        DataError: the file breaks Karpathy's form, or none of its images is there.
    """
    content = read_json(path, remedy=_REMEDY, half_characters=True)
    splits: dict[str, list[_CaptionedFile]] = {"train": [], "val": [], "test": []}
    try:
        for row in content["images"]:
            captions = [(text["sentid"], text["raw"]) for text in row["sentences"]]
            name = f"{row['filepath']}/{row['filename']}"
            splits[_SPLIT_OF[row["split"]]].append(_CaptionedFile(name, row["cocoid"], captions))
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not in Karpathy's form ({reason}). {_REMEDY}") from error
    _write_splits(root, splits, images)


def rewrite_splits(files: Mapping[str, Path], root: Path, images: CocoImages) -> None:
    """Write files of BLIP's form with their images where a copy has them.

    Args:
        files: by name, such as `train` or `val`.

    Raises:
        DataError: a file is missing or no list of rows, or none of the images is there.
    """
    contents = {name: _read_rows(path) for name, path in files.items()}
    names = [row["image"] for rows in contents.values() for row in rows if _has_image(row)]
    places = images.find(dict.fromkeys(names))
    for name, rows in contents.items():
        moved = [row | {"image": places[row["image"]]} if _has_image(row) else row for row in rows]
        write_json(karpathy_file(root, name), moved)


def _read_rows(path: Path) -> list[Any]:
    rows = read_json(path, remedy=_REMEDY, half_characters=True)
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}, expected a list. {_REMEDY}")
    return rows


def _has_image(row: object) -> bool:
    """Whether a row names an image; reading it says what is wrong with others."""
    return isinstance(row, dict) and isinstance(row.get("image"), str) and bool(row["image"])


def split_officially(annotations: Mapping[str, Path], root: Path, images: CocoImages) -> None:
    """Write train and val files from COCO's own captions; COCO's test captions are not public.

    Args:
        annotations: caption files by name of the image folder, such as `train2014`.

    Raises:
        DataError: a file is missing or breaks COCO's form, or none of its images is there.
    """
    splits: dict[str, list[_CaptionedFile]] = {}
    for split in ("train", "val"):
        folders = sorted(name for name in annotations if name.startswith(split))
        if not folders:
            raise DataError(
                f"captions_{split}2014.json (or 2017) not found: caption_splits `official` needs "
                "COCO's annotations beside the images. Download annotations_trainval2014.zip."
            )
        splits[split] = _read_annotations(annotations[folders[0]], folders[0])
    _write_splits(root, splits, images)


def write_references(root: Path, split: str) -> None:
    """Write the references of a split from the captions in its own file.

    Raises:
        DataError: the file is missing or a row has no list of captions.
    """
    path = karpathy_file(root, split)
    files = []
    for number, row in enumerate(_read_rows(path)):
        captions = row.get("caption") if isinstance(row, dict) else None
        if not isinstance(captions, list) or not isinstance(row.get("image"), str):
            raise DataError(f"{path}: row {number}: expected an image and its captions. {_REMEDY}")
        texts = [(number * 100 + place, text) for place, text in enumerate(captions)]
        image_id = last_number(Path(row["image"]).stem)
        if image_id is None:
            raise DataError(f"{path}: row {number}: image {row['image']!r} holds no number")
        files.append(_CaptionedFile(row["image"], image_id, texts))
    write_json(karpathy_file(root, f"{split}_gt"), _coco_form(files))


def _read_annotations(path: Path, folder: str) -> list[_CaptionedFile]:
    content = read_json(path, remedy=_REMEDY, half_characters=True)
    try:
        captions: dict[int, list[tuple[int, str]]] = {row["id"]: [] for row in content["images"]}
        for row in content["annotations"]:
            captions[row["image_id"]].append((row["id"], row["caption"]))
        return [
            _CaptionedFile(f"{folder}/{row['file_name']}", row["id"], captions[row["id"]])
            for row in content["images"]
        ]
    except (KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not in COCO's form ({reason}). {_REMEDY}") from error


def _write_splits(
    root: Path, splits: Mapping[str, Sequence[_CaptionedFile]], images: CocoImages
) -> None:
    places = images.find(file.image for files in splits.values() for file in files)
    for name, files in splits.items():
        _write_split(root, name, [replace(file, image=places[file.image]) for file in files])


def _write_split(root: Path, split: str, files: Sequence[_CaptionedFile]) -> None:
    if split == "train":
        rows: list[dict[str, Any]] = [
            {"image": file.image, "image_id": f"coco_{file.image_id}", "caption": text}
            for file in files
            for _, text in file.captions
        ]
    else:
        rows = [
            {"image": file.image, "caption": [text for _, text in file.captions]} for file in files
        ]
        write_json(karpathy_file(root, f"{split}_gt"), _coco_form(files))
    write_json(karpathy_file(root, split), rows)


def _coco_form(files: Sequence[_CaptionedFile]) -> dict[str, Any]:
    return {
        "images": [{"id": file.image_id} for file in files],
        "annotations": [
            {"id": caption_id, "image_id": file.image_id, "caption": text}
            for file in files
            for caption_id, text in file.captions
        ],
    }
