"""Inspects each task's folder of a data set: records, splits, counts, and which images are used.

Unlike the readers, which refuse, it goes on and gives everything that is wrong as findings. What is
in quarantine is inspected too.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ademvl.data.acquisition.zip_images import image_names
from ademvl.data.captions import (
    KARPATHY_IMAGES,
    OFFICIAL_IMAGES,
    karpathy_file,
    parse_evaluation_rows,
    parse_training_rows,
)
from ademvl.data.findings import Finding
from ademvl.data.image_checks import ImageUse
from ademvl.data.instructions import TEXT_ONLY_THOUSANDS, parse_instructions
from ademvl.data.mme import TASKS, parse_benchmark
from ademvl.data.scienceqa import (
    OFFICIAL_IMAGES as SCIENCEQA_IMAGES,
)
from ademvl.data.scienceqa import (
    OFFICIAL_PROBLEMS,
    SPLITS,
    parse_captions,
    problem_findings,
    read_object,
    split_findings,
)
from ademvl.data.surrogates import escape_surrogates
from ademvl.errors import DataError


@dataclass
class Inspection:
    """What a folder holds.

    Attributes:
        findings: what is wrong, images aside.
        images: every use of an image by an item.
        counts: sizes by name.
        expected: published sizes by the same names.
        has_test: whether there is a test split.
    """

    findings: list[Finding] = field(default_factory=list)
    images: list[ImageUse] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    has_test: bool = True

    def add(self, text: str, item_id: str = "", split: str = "") -> None:
        """Add a finding about a record."""
        self.findings.append(_record(text, item_id, split))


def _record(text: str, item_id: str, split: str) -> Finding:
    return Finding("record", escape_surrogates(text), (item_id,) if item_id else (), split)


def inspect_task(root: Path, task: str) -> Inspection:
    """Inspect the folder of a task; a file that cannot be read is a finding."""
    inspection = Inspection()
    try:
        _INSPECTORS[task](root, inspection)
    except DataError as error:
        inspection.findings.append(Finding("file", str(error)))
    return inspection


def _inspect_scienceqa(root: Path, found: Inspection) -> None:
    problems_file, splits_file = root / "problems.json", root / "pid_splits.json"
    raw_problems, raw_splits = read_object(problems_file), read_object(splits_file)
    for question_id, raw in raw_problems.items():
        split = str(raw.get("split", "")) if isinstance(raw, dict) else ""
        wrong = problem_findings(question_id, raw)
        for what in wrong:
            found.add(f"{problems_file}: question {question_id}: {what}", question_id, split)
        if not wrong:
            _count_problem(root, question_id, raw, found)
    for what in split_findings(raw_splits, raw_problems):
        found.add(f"{splits_file}: {what}")
    captions_file = root / "captions.json"
    if captions_file.exists():
        wrong = []
        parse_captions(captions_file, raw_problems, wrong)
        for what in wrong:
            found.add(what)
    for split in SPLITS:
        found.expected[f"{split} problems"] = OFFICIAL_PROBLEMS[split]
    found.counts["images"] = len(found.images)
    found.expected |= SCIENCEQA_IMAGES


def _count_problem(root: Path, question_id: str, raw: Mapping[str, Any], found: Inspection) -> None:
    split = raw["split"]
    found.counts[f"{split} problems"] = found.counts.get(f"{split} problems", 0) + 1
    if raw["image"] is not None:
        found.counts[f"{split} images"] = found.counts.get(f"{split} images", 0) + 1
        path = root / "images" / split / question_id / raw["image"]
        found.images.append(ImageUse(question_id, f"question {question_id}", split, path))


def _inspect_captions(root: Path, found: Inspection) -> None:
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


def _inspect_instructions(root: Path, found: Inspection) -> None:
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


def _inspect_mme(root: Path, found: Inspection) -> None:
    questions, wrong = parse_benchmark(root)
    for text in wrong:
        found.add(text, split="test")
    found.images = [
        ImageUse(f"{item.task}/{item.image.name}", f"{item.task} question", "test", item.image)
        for item in questions
    ]
    counts = Counter(item.task for item in questions)
    found.counts = {f"{task} questions": counts[task] for task in TASKS}
    found.expected = {f"{task} questions": size for task, size in TASKS.items()}


_INSPECTORS: Mapping[str, Callable[[Path, Inspection], None]] = {
    "scienceqa": _inspect_scienceqa,
    "coco_caption": _inspect_captions,
    "instruction": _inspect_instructions,
    "mme": _inspect_mme,
}
