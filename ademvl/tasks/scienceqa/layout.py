"""ScienceQA's folder of a data set: how it is laid out and inspected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.data.image_checks import ImageUse
from ademvl.data.links import Linker
from ademvl.errors import DataError
from ademvl.tasks.data_layout import DataLayout, Inspection, place_images
from ademvl.tasks.scienceqa.copies import ExportParts, find_scienceqa
from ademvl.tasks.scienceqa.hub_export import convert_export
from ademvl.tasks.scienceqa.reader import (
    OFFICIAL_IMAGES,
    OFFICIAL_PROBLEMS,
    SPLITS,
    parse_captions,
    problem_findings,
    read_object,
    split_findings,
)
from ademvl.tasks.scienceqa.taking import take_questions


def _lay_out(
    root: Path, settings: DatasetSettings, copies: list[Path], linker: Linker
) -> dict[str, Any]:
    facts = _place(root, copies, linker)
    if settings.take:
        facts["questions_before_take"] = take_questions(root, settings.take)
    return facts


def _place(root: Path, copies: list[Path], linker: Linker) -> dict[str, Any]:
    parts = find_scienceqa(copies)
    if isinstance(parts, ExportParts):
        return {"layout": "Hugging Face export", "ids": convert_export(parts, root)}
    if not parts.splits.is_file():
        raise DataError(
            f"{parts.splits}: missing; it belongs beside {parts.problems.name}. "
            "Take it from the official repository."
        )
    linker.place(parts.problems, root / "problems.json")
    linker.place(parts.splits, root / "pid_splits.json")
    if parts.captions:
        linker.place(parts.captions, root / "captions.json")
    for split, folder in parts.image_folders.items():
        place_images(folder, root, split, linker)
    return {"layout": parts.layout}


def _inspect(root: Path, found: Inspection) -> None:
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
    found.expected |= OFFICIAL_IMAGES


def _count_problem(root: Path, question_id: str, raw: Mapping[str, Any], found: Inspection) -> None:
    split = raw["split"]
    found.counts[f"{split} problems"] = found.counts.get(f"{split} problems", 0) + 1
    if raw["image"] is not None:
        found.counts[f"{split} images"] = found.counts.get(f"{split} images", 0) + 1
        path = root / "images" / split / question_id / raw["image"]
        found.images.append(ImageUse(question_id, f"question {question_id}", split, path))


LAYOUT = DataLayout(find=find_scienceqa, lay_out=_lay_out, inspect=_inspect)
