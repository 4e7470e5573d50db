"""Published sizes of data sets and assumed lengths of texts, for data that is not there yet."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.data.captions import KARPATHY_IMAGES
from ademvl.data.prompts import CAPTION_PROMPT
from ademvl.data.scienceqa import OFFICIAL_IMAGES, OFFICIAL_PROBLEMS
from ademvl.planning.rows import Row, num_inserted

LENGTHS_FILE = Path(__file__).with_name("text_lengths.yaml")
CAPTIONS_PER_IMAGE = 5
KARPATHY_CAPTIONS = 566_747
"""Captions of the Karpathy train split: coco_karpathy_train.json of LAVIS."""
OFFICIAL_COCO = {"train": (414_113, 82_783), "val": (202_654, 40_504)}
"""Captions and images of COCO 2014 (arXiv 1504.00325)."""
ALPACA_ITEMS = 52_002
"""Items of Alpaca's alpaca_data.json, the text-only part of LaVIN's instructions."""
INSTRUCTION_IMAGES, INSTRUCTION_IMAGE_ITEMS = 81_479, 157_712
"""Images and conversations of LLaVA-Instruct-150K. LaVIN's file has an item for each question and
answer, and so more of them: how many is known when it is there."""
MME_QUESTIONS, MME_IMAGES = 2_374, 1_187
"""Of the MME benchmark (arXiv 2306.13394), two questions an image."""
_LENGTH_GROUPS = 20


@cache
def length_table() -> dict[str, Any]:
    """Read what is known of lengths of texts, by task."""
    table: dict[str, Any] = yaml.safe_load(LENGTHS_FILE.read_text(encoding="utf-8"))
    return table


def text_lengths(
    run: RunSettings, dataset: DatasetSettings, *, is_training: bool
) -> dict[str, Any]:
    """Return what `text_lengths.yaml` says about what a run trains on, or is evaluated on."""
    prefix = f"{dataset.source}_" if dataset.is_mini else ""
    name = run.task if is_training else run.evaluation_task
    lengths: dict[str, Any] = length_table()[prefix + name]
    return lengths


def assumed_rows(
    run: RunSettings, lengths: dict[str, Any], image_fraction: float, is_training: bool
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Return rows of assumed lengths, with and without images in the right proportion.

    The second part is the longest row that can occur, if something limits it.
    """
    per_token, room = lengths["per_token"], run.prompts.max_seq_len
    extra = sum(lengths.get("explanation", {}).get(part, 0) for part in run.prompts.train_format)

    def count(text: str) -> int:
        return max(1, round(len(text) / per_token))

    def row(characters: int, *, has_image: bool) -> Row:
        inserted = num_inserted(run, count, has_image=has_image)
        scored = lengths["scored"] if is_training else 0
        spoken = characters + extra - (0 if is_training else per_token * lengths["scored"])
        return Row(min(1 + inserted + round(spoken / per_token), room), scored, has_image)

    if run.task == "coco_caption" and not is_training:
        inserted = num_inserted(run, count, has_image=True)
        prompt = (Row(1 + inserted + count(CAPTION_PROMPT), 0, has_image=True),)
        return prompt, prompt
    shown = run.images == "shown"
    num_with = round(_LENGTH_GROUPS * image_fraction)
    groups = [("with_image", shown)] * num_with
    groups += [("text_only", False)] * (_LENGTH_GROUPS - num_with)
    rows = (
        row(characters, has_image=has_image)
        for name, has_image in groups
        for characters in lengths[name]
    )
    longest = (row(lengths["most"], has_image=shown),) if "most" in lengths else ()
    return tuple(rows), longest


def published_sizes(
    run: RunSettings, dataset: DatasetSettings, *, is_training: bool
) -> tuple[int, int, int]:
    """Return items, items with an image, and different images of a published data set."""
    if dataset.is_mini:
        return _mini_sizes(run, dataset, is_training=is_training)
    if run.task == "scienceqa":
        split = "train" if is_training else run.evaluation.split
        in_test = OFFICIAL_IMAGES["test images"]
        # train has 6,218 and val 2,097 of the 10,332 (arXiv 2209.09513)
        images = {"test": in_test, "val": 2_097}.get(
            split, OFFICIAL_IMAGES["images"] - in_test - 2_097
        )
        whole = OFFICIAL_PROBLEMS[split]
        items = min(dataset.take.get(split, whole), whole)
        images = round(images * items / whole)
        return items, images, images
    if run.task == "instruction":
        if not is_training:
            return MME_QUESTIONS, MME_QUESTIONS, MME_IMAGES
        items = ALPACA_ITEMS + INSTRUCTION_IMAGE_ITEMS
        return items, INSTRUCTION_IMAGE_ITEMS, INSTRUCTION_IMAGES
    if not is_training:
        images = KARPATHY_IMAGES[run.evaluation.split]
        return images, images, images
    if dataset.caption_splits == "official":
        captions, images = OFFICIAL_COCO["train"]
        return captions, captions, images
    return KARPATHY_CAPTIONS, KARPATHY_CAPTIONS, KARPATHY_IMAGES["train"]


def _mini_sizes(
    run: RunSettings, dataset: DatasetSettings, *, is_training: bool
) -> tuple[int, int, int]:
    name = "train" if is_training else run.evaluation.split
    if run.task == "coco_caption":
        images = int(getattr(dataset, f"caption_{name}_images"))
        items = images * CAPTIONS_PER_IMAGE if is_training else images
        return items, items, images
    questions = int(getattr(dataset, f"{name}_questions"))
    with_image = round(questions * (1 - dataset.text_only_fraction))
    return questions, with_image, with_image
