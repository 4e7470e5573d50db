"""The folder of COCO captions in a data set: how it is laid out and inspected."""

from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.data.acquisition.zip_images import image_names
from ademvl.data.image_checks import ImageUse
from ademvl.data.links import Linker
from ademvl.errors import DataError
from ademvl.tasks.coco_caption.coco_images import CocoImages
from ademvl.tasks.coco_caption.copies import CaptionParts, find_captions
from ademvl.tasks.coco_caption.karpathy import (
    IMAGE_FOLDERS,
    rewrite_splits,
    split_combined,
    split_officially,
    write_references,
)
from ademvl.tasks.coco_caption.reader import (
    KARPATHY_IMAGES,
    OFFICIAL_IMAGES,
    karpathy_file,
    parse_evaluation_rows,
    parse_training_rows,
)
from ademvl.tasks.data_layout import DataLayout, Inspection, place_images

_SPLITS = ("train", "val", "test")


def _lay_out(
    root: Path, settings: DatasetSettings, copies: list[Path], linker: Linker
) -> dict[str, Any]:
    parts = find_captions(copies)
    for name, folder in parts.image_folders.items():
        place_images(folder, root, name, linker)
    for name, file in parts.annotations.items():
        linker.place(file, root / "annotations" / f"captions_{name}.json")
    images = CocoImages(root / "images", parts.image_folders)
    if settings.caption_splits == "official":
        split_officially(parts.annotations, root, images)
        return {"layout": "COCO", "splits": "of COCO"}
    return {"layout": "COCO", "splits": _lay_out_karpathy(root, parts, images, linker)}


def _lay_out_karpathy(root: Path, parts: CaptionParts, images: CocoImages, linker: Linker) -> str:
    """Bring the Karpathy splits into place; return which form they came in."""
    if all(name in parts.karpathy for name in _SPLITS):
        has_all_folders = not images.lack(IMAGE_FOLDERS)
        moved = {} if has_all_folders else {name: parts.karpathy[name] for name in _SPLITS}
        rewrite_splits(moved, root, images)
        for name, file in parts.karpathy.items():
            if name not in moved:
                linker.place(file, karpathy_file(root, name))
        for split in ("val", "test"):
            if f"{split}_gt" not in parts.karpathy:
                write_references(root, split)
        return "of Karpathy, in BLIP's form"
    if parts.combined:
        split_combined(parts.combined, root, images)
        return f"of Karpathy, {parts.combined.name}"
    raise DataError(
        "COCO captions: images were found, but neither coco_karpathy_{train,val,test}.json nor "
        "dataset_coco.json. Put them beside the annotations or download them (docs/data.md); "
        "`caption_splits: official` does without."
    )


def _inspect(root: Path, found: Inspection) -> None:
    examples, bad_rows = parse_training_rows(root)
    for row_id, text in bad_rows.items():
        found.add(text, row_id, "train")
    found.images += [
        ImageUse(item.item_id, f"id {item.image_id}", "train", item.image) for item in examples
    ]
    found.counts["train images"] = len({item.image for item in examples})
    found.counts["train captions"] = len(examples)
    found.has_test = karpathy_file(root, "test").exists()
    for split in ("val", "test") if found.has_test else ("val",):
        images, wrong = parse_evaluation_rows(root, split)
        for text in wrong:
            found.add(text, split=split)
        found.images += [
            ImageUse(str(item.image_id), f"id {item.image_id}", split, item.image)
            for item in images
        ]
        found.counts[f"{split} images"] = len(images)
        found.counts[f"{split} captions"] = sum(len(item.references) for item in images)
    found.expected |= {f"{split} images": size for split, size in KARPATHY_IMAGES.items()}
    for folder, size in OFFICIAL_IMAGES.items():
        image_dir = root / "images" / folder
        if image_dir.is_dir() or image_dir.with_name(f"{folder}.zip").is_file():
            found.expected[f"files in {folder}"] = size
            files = [name for name in image_names(image_dir) if name.endswith(".jpg")]
            found.counts[f"files in {folder}"] = len(files)


LAYOUT = DataLayout(find=find_captions, lay_out=_lay_out, inspect=_inspect)
