r"""Reads LaVIN's instruction data strictly: `all_data.json`, and COCO's train2014 images.

The file holds the 52k text-only items of Alpaca and the image items of LLaVA-Instruct-150K, one for
each question and answer, already rendered: "Instruction: {text}\nResponse:" and the answer.

Layout: `all_data.json`, `images/train2014/COCO_train2014_<image>`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ademvl.data.image_files import missing_image_findings
from ademvl.data.quarantine import check_quarantine, read_quarantine
from ademvl.data.surrogates import surrogate_findings
from ademvl.errors import DataError, list_findings
from ademvl.storage.files import read_json

INSTRUCTION_FILE = "all_data.json"
TEXT_ONLY_THOUSANDS = 52
"""Items without an image, as LaVIN's README gives them (52k, from Alpaca)."""

_LIST = "all"
_IMAGE_PREFIX = "COCO_train2014_"
_IMAGE_NAME = re.compile(r"(?:COCO_train2014_)?\d{12}\.jpg")
_REMEDY = "Download the file again."


@dataclass(frozen=True)
class InstructionExample:
    """One instruction with its answer.

    Attributes:
        item_id: the file's `qid`.
        prompt: begins with "Instruction: " and ends in "Response:".
        answer: what follows; empty for a few items of Alpaca.
        image: file of the picture, None for text-only items.
    """

    item_id: str
    prompt: str
    answer: str
    image: Path | None


def load_instructions(root: Path) -> list[InstructionExample]:
    """Read all instructions in file order, without those in quarantine.

    Raises:
        DataError: a missing or malformed file; else lists all bad items and missing images.
    """
    path = root / INSTRUCTION_FILE
    examples, bad_items = parse_instructions(root)
    if left_out := read_quarantine(root):
        check_quarantine(root, left_out, [*bad_items, *(item.item_id for item in examples)])
        examples = [item for item in examples if item.item_id not in left_out]
    findings = [text for item_id, text in bad_items.items() if item_id not in left_out]
    findings += missing_image_findings(
        (f"item {item.item_id}", item.image) for item in examples if item.image
    )
    if findings:
        raise DataError(list_findings(f"{path}: not valid instruction data", findings, _REMEDY))
    return examples


def parse_instructions(root: Path) -> tuple[list[InstructionExample], dict[str, str]]:
    """Read all instructions without looking at images or quarantine.

    Returns:
        The good items in file order; and by id, or "row <number>" where an item has none of its
        own, what is wrong with the others.

    Raises:
        DataError: the file is missing, no JSON, or has no list "all".
    """
    path = root / INSTRUCTION_FILE
    content = read_json(path, remedy=_REMEDY, half_characters=True)
    rows = content.get(_LIST) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: no list {_LIST!r} in it. {_REMEDY}")
    examples: dict[str, InstructionExample] = {}
    bad_items: dict[str, str] = {}
    for number, row in enumerate(rows):
        wrong = _item_findings(row)
        item_id = f"row {number}"
        if not wrong and row["qid"] in examples:
            wrong = [f"qid {row['qid']} occurs twice"]
        elif isinstance(row, dict) and isinstance(row.get("qid"), str):
            item_id = row["qid"]
        if wrong:
            bad_items[item_id] = f"{path}: row {number}: {'; '.join(wrong)}"
        else:
            examples[item_id] = _to_example(row, root)
    return list(examples.values()), bad_items


def _item_findings(row: object) -> list[str]:
    if not isinstance(row, dict):
        return [f"is a {type(row).__name__}, expected an object"]
    findings = [
        f"{name} is {row.get(name)!r}, expected text"
        for name in ("qid", "instruction", "answer")
        if not isinstance(row.get(name), str)
    ]
    findings += surrogate_findings(
        (name, row.get(name)) for name in ("qid", "instruction", "answer")
    )
    prompt, image, source = row.get("instruction"), row.get("image"), row.get("image_source")
    if isinstance(prompt, str) and not (
        prompt.startswith("Instruction:") and prompt.endswith("Response:")
    ):
        findings.append('instruction does not run from "Instruction:" to "Response:"')
    if image is not None and not (isinstance(image, str) and _IMAGE_NAME.fullmatch(image)):
        findings.append(f"image is {image!r}, expected a file name of COCO train2014 or null")
    if image is not None and source != "mscoco":
        findings.append(f"image_source is {source!r}, expected 'mscoco'")
    return findings


def _to_example(row: dict[str, Any], root: Path) -> InstructionExample:
    image = None
    if row["image"] is not None:
        name = _IMAGE_PREFIX + row["image"].removeprefix(_IMAGE_PREFIX)
        image = root / "images" / "train2014" / name
    return InstructionExample(row["qid"], row["instruction"], row["answer"], image)
