"""Reads COCO captions strictly, and cleans captions as the reference implementation does.

Layout: `images/<file>`, `karpathy/coco_karpathy_{train,val,test}.json` (rows that name an image
below `images/`), `karpathy/coco_karpathy_{val,test}_gt.json` (references in COCO's form), and
`annotations/captions_<split>.json` (COCO's own form).
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ademvl.data.image_files import missing_image_findings
from ademvl.data.quarantine import check_quarantine, read_quarantine
from ademvl.data.surrogates import surrogate_findings
from ademvl.errors import DataError, list_findings
from ademvl.storage.files import read_json

OFFICIAL_IMAGES = {"train2014": 82_783, "val2014": 40_504}
"""Images of COCO 2014, from its download page."""
KARPATHY_IMAGES = {"train": 113_287, "val": 5_000, "test": 5_000}
"""Images of the Karpathy splits; train has COCO's train images and what is left of val."""

_REMEDY = "Correct the files, or make them again (`snakemake data`)."
_PUNCTUATION = re.compile(r"[.!\"()*#:;~]")
_WHITE_RUN = re.compile(r"\s{2,}")
_GENERATED_CAPTION = re.compile(r"picture of (.+)")
_LAST_NUMBER = re.compile(r"(\d+)\D*$")
_MAX_DIGITS = 18  # of an id; COCO's have 12


@dataclass(frozen=True)
class CaptionExample:
    """One caption of one image, to train on; `item_id` is unique, `image_id` is not."""

    item_id: str
    image_id: int
    image: Path
    caption: str


@dataclass(frozen=True)
class CaptionImage:
    """An image to be captioned, with its reference captions as published."""

    image_id: int
    image: Path
    references: tuple[str, ...]


def load_caption_train(root: Path) -> list[CaptionExample]:
    """Read the training captions in file order, without those in quarantine.

    Raises:
        DataError: a missing or malformed file; else lists all bad rows and missing images.
    """
    path = karpathy_file(root, "train")
    examples, bad_rows = parse_training_rows(root)
    if left_out := read_quarantine(root):
        check_quarantine(root, left_out, [*bad_rows, *(item.item_id for item in examples)])
        examples = [item for item in examples if item.item_id not in left_out]
    findings = [text for row_id, text in bad_rows.items() if row_id not in left_out]
    findings += missing_image_findings((f"id {item.image_id}", item.image) for item in examples)
    _refuse(path, findings)
    return examples


def parse_training_rows(root: Path) -> tuple[list[CaptionExample], dict[str, str]]:
    """Read the training captions without looking at images or quarantine.

    Returns:
        The good rows in file order; and by "row <number>" what is wrong with the others.

    Raises:
        DataError: a missing or malformed file.
    """
    path = karpathy_file(root, "train")
    bad_rows: dict[str, str] = {}
    counts: Counter[int] = Counter()
    examples = []
    for number, row in enumerate(_read_rows(path)):
        row_id, findings = f"row {number}", list[str]()
        image, image_id = _parse_image(row, root, f"{path}: {row_id}", findings)
        caption = row.get("caption") if isinstance(row, dict) else None
        if not isinstance(caption, str) or not caption.strip():
            findings.append(f"{path}: {row_id}: caption is {caption!r}, expected text")
        elif halves := surrogate_findings([("caption", caption)]):
            findings += [f"{path}: {row_id}: {what}" for what in halves]
        elif image is not None and image_id is not None:
            item_id = f"{image_id}-{counts[image_id]}"
            counts[image_id] += 1
            examples.append(CaptionExample(item_id, image_id, image, caption))
        if findings:
            bad_rows[row_id] = "; ".join(findings)
    return examples, bad_rows


def load_caption_images(root: Path, split: str) -> list[CaptionImage]:
    """Read the images of a split in file order, with the references of its `_gt.json`.

    Raises:
        DataError: a missing or malformed file; else lists all bad rows, images that occur twice,
            lack references or are missing, and references without an image.
    """
    images, findings = parse_evaluation_rows(root, split)
    findings += missing_image_findings((f"id {item.image_id}", item.image) for item in images)
    _refuse(karpathy_file(root, split), findings)
    return images


def parse_evaluation_rows(root: Path, split: str) -> tuple[list[CaptionImage], list[str]]:
    """Read the images of a split without looking at their files.

    Returns:
        The good rows in file order, and what is wrong with the others.

    Raises:
        DataError: a missing or malformed file.
    """
    path = karpathy_file(root, split)
    references_file = karpathy_file(root, f"{split}_gt")
    references = load_coco_references(references_file)
    findings: list[str] = []
    images: dict[int, CaptionImage] = {}
    for number, row in enumerate(_read_rows(path)):
        image, image_id = _parse_image(row, root, f"{path}: row {number}", findings)
        if image is None or image_id is None:
            continue
        if image_id in images:
            findings.append(f"{path}: row {number}: image id {image_id} occurs twice")
        elif image_id not in references:
            findings.append(f"{path}: image id {image_id}: no captions in {references_file.name}")
        else:
            images[image_id] = CaptionImage(image_id, image, references[image_id])
    findings += [
        f"{references_file}: image id {image_id}: not in {path.name}"
        for image_id in references
        if image_id not in images
    ]
    return list(images.values()), findings


def load_coco_references(path: Path) -> dict[int, tuple[str, ...]]:
    """Read a caption file in COCO's form: captions by image id, both in file order.

    Raises:
        DataError: lists ids that occur twice, captions of unknown images, captions without text,
            and images without captions.
    """
    content = read_json(path, remedy=_REMEDY, half_characters=True)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected an object. {_REMEDY}")
    findings: list[str] = []
    image_ids = _parse_ids(path, content, "images", findings)
    _parse_ids(path, content, "annotations", findings)
    captions: dict[int, list[str]] = {image_id: [] for image_id in image_ids}
    for annotation in _rows(content, "annotations"):
        place = f"{path}: annotation {annotation.get('id')!r}"
        caption, image_id = annotation.get("caption"), annotation.get("image_id")
        if not isinstance(caption, str) or not caption.strip():
            findings.append(f"{place}: caption is {caption!r}, expected text")
        elif halves := surrogate_findings([("caption", caption)]):
            findings += [f"{place}: {what}" for what in halves]
        elif image_id not in captions:
            findings.append(f"{place}: image id {image_id!r} is not among the images")
        else:
            captions[image_id].append(caption)
    findings += [
        f"{path}: image id {image_id}: no captions"
        for image_id, texts in captions.items()
        if not texts
    ]
    _refuse(path, findings)
    return {image_id: tuple(texts) for image_id, texts in captions.items()}


def normalize_caption(text: str, *, max_words: int) -> str:
    """Clean a caption to be trained on, and cut it to its first `max_words` words.

    Lower case; . ! " ( ) * # : ; ~ become spaces; two or more white characters become a space;
    newlines at the end go, then spaces at both ends (golden case G).
    """
    cleaned = _WHITE_RUN.sub(" ", _PUNCTUATION.sub(" ", text.lower()))
    return " ".join(cleaned.rstrip("\n").strip(" ").split(" ")[:max_words])


def extract_caption(generated: str) -> str:
    """Return the caption in generated text.

    That is what follows the first "picture of " up to the end of the line; the text itself where
    nothing does (golden case G).
    """
    found = _GENERATED_CAPTION.search(generated)
    return found[1] if found else generated


def karpathy_file(root: Path, name: str) -> Path:
    """Return the file of a split, or of its references (`<split>_gt`)."""
    return root / "karpathy" / f"coco_karpathy_{name}.json"


def last_number(text: str) -> int | None:
    """Return the last number in a name, as COCO's file names end in the image id."""
    found = _LAST_NUMBER.search(text)
    return int(found[1]) if found and len(found[1]) <= _MAX_DIGITS else None


def _read_rows(path: Path) -> list[Any]:
    rows = read_json(path, remedy=_REMEDY, half_characters=True)
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}, expected a list. {_REMEDY}")
    return rows


def _parse_image(
    row: object, root: Path, place: str, findings: list[str]
) -> tuple[Path | None, int | None]:
    """Return where a row's image lies and its id: the row's own, else the file name's number."""
    name = row.get("image") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(name, str) or not name:
        findings.append(f"{place}: image is {name!r}, expected a path below {root / 'images'}")
        return None, None
    if halves := surrogate_findings([("image", name), ("image_id", row.get("image_id"))]):
        findings += [f"{place}: {what}" for what in halves]
        return None, None
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        findings.append(f"{place}: image {name!r} leaves {root / 'images'}")
        return None, None
    written = row.get("image_id", relative.stem)
    image_id = last_number(written) if isinstance(written, str) else written
    if not isinstance(image_id, int) or isinstance(image_id, bool):
        findings.append(f"{place}: image id {written!r} holds no number")
        return None, None
    return root / "images" / relative, image_id


def _parse_ids(
    path: Path, content: Mapping[str, Any], name: str, findings: list[str]
) -> dict[int, None]:
    """Return the ids of a list of COCO's form in order."""
    if not isinstance(content.get(name), list):
        findings.append(f"{path}: no list {name!r} in it")
    ids: dict[int, None] = {}
    for number, row in enumerate(_rows(content, name)):
        row_id = row.get("id")
        if not isinstance(row_id, int) or isinstance(row_id, bool):
            findings.append(f"{path}: {name}[{number}]: id is {row_id!r}, expected a number")
        elif row_id in ids:
            findings.append(f"{path}: {name}[{number}]: id {row_id} occurs twice")
        else:
            ids[row_id] = None
    return ids


def _rows(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = content.get(name)
    return [row if isinstance(row, dict) else {} for row in rows] if isinstance(rows, list) else []


def _refuse(path: Path, findings: list[str]) -> None:
    if findings:
        raise DataError(list_findings(f"{path}: not valid caption data", findings, _REMEDY))
