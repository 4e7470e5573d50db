"""The folder of LaVIN's instructions in a data set: how it is laid out and inspected."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.data.image_checks import ImageUse
from ademvl.data.links import Linker
from ademvl.tasks.copies import (
    COCO_PREFIXES,
    IMAGE_PREFIXES,
    first_images,
    first_of,
    nothing_found,
)
from ademvl.tasks.data_layout import DataLayout, Inspection, place_images
from ademvl.tasks.instruction.reader import TEXT_ONLY_THOUSANDS, parse_instructions


def find_instructions(copies: Sequence[Path]) -> tuple[Path, Path | None]:
    """Find LaVIN's `all_data.json`, and the folder with COCO's train2014 images if there is one.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    found = first_of(copies, ["all_data.json", "data/all_data.json", "instruction/all_data.json"])
    if found is None:
        raise nothing_found(
            "LaVIN's instruction data",
            copies,
            ["LaVIN, ADEM-VL: all_data.json or data/all_data.json, with images/train2014"],
        )
    inside = [outer + inner for outer in COCO_PREFIXES for inner in IMAGE_PREFIXES]
    images = [f"{prefix}train2014" for prefix in inside] + ["cocoimages/train"]
    return found, first_images([found.parent, *copies], images)


def _lay_out(
    root: Path, settings: DatasetSettings, copies: list[Path], linker: Linker
) -> dict[str, Any]:
    file, images = find_instructions(copies)
    linker.place(file, root / "all_data.json")
    if images:
        place_images(images, root, "train2014", linker)
    return {"layout": "LaVIN"}


def _inspect(root: Path, found: Inspection) -> None:
    examples, bad_items = parse_instructions(root)
    for item_id, text in bad_items.items():
        found.add(text, item_id, "train")
    found.images = [
        ImageUse(item.item_id, f"item {item.item_id}", "train", item.image)
        for item in examples
        if item.image
    ]
    found.has_test = False
    found.counts["image items"] = len(found.images)
    found.counts["text-only items"] = len(examples) - len(found.images)
    found.counts["text-only items in thousands"] = round(found.counts["text-only items"] / 1000)
    found.expected["text-only items in thousands"] = TEXT_ONLY_THOUSANDS


LAYOUT = DataLayout(find=find_instructions, lay_out=_lay_out, inspect=_inspect)
