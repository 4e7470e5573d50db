"""Reads A-OKVQA's questions with four choices strictly, and finds COCO's images of them.

Layout: `aokvqa_v1p0_{train,val,test}.json` as published, `images/` with folders or archives of
COCO's images, and `images.json`, which says where below it each image lies, by its number. The
right choices of `test` are not public.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ademvl.data.image_files import missing_image_findings
from ademvl.data.quarantine import check_quarantine, read_quarantine
from ademvl.data.surrogates import surrogate_findings
from ademvl.errors import DataError, list_findings
from ademvl.storage.files import read_json

SPLITS = ("train", "val", "test")
OFFICIAL_QUESTIONS = {"train": 17_056, "val": 1_145, "test": 6_702}
"""Questions of each split (arXiv 2206.01718)."""
IMAGES_FILE = "images.json"
_NUM_CHOICES = 4
_REMEDY = "Correct the files, or make them again (`snakemake data`)."


@dataclass(frozen=True)
class Question:
    """One question with its choices.

    Attributes:
        question_id: as published.
        question, choices: texts.
        answer_index: of the right choice, from 0.
        rationale: the first reason that people gave, empty where there is none.
        image_id: number of COCO's image.
        image: its file.
    """

    question_id: str
    question: str
    choices: tuple[str, ...]
    answer_index: int
    rationale: str
    image_id: int
    image: Path


def questions_file(root: Path, split: str) -> Path:
    """Return the file of a split."""
    return root / f"aokvqa_v1p0_{split}.json"


def load_questions(root: Path, split: str, *, look_at_images: bool = True) -> list[Question]:
    """Read the questions of a split in file order, of train without those in quarantine.

    Raises:
        DataError: a missing or malformed file; else lists all bad questions, among them those
            without a right choice, and missing images.
    """
    path = questions_file(root, split)
    questions, bad = parse_questions(root, split)
    left_out = read_quarantine(root) if split == "train" else frozenset()
    if left_out:
        check_quarantine(root, left_out, [*bad, *(item.question_id for item in questions)])
        questions = [item for item in questions if item.question_id not in left_out]
    findings = [text for item_id, text in bad.items() if item_id not in left_out]
    if look_at_images:
        findings += missing_image_findings(
            (f"question {item.question_id}", item.image) for item in questions
        )
    if findings:
        raise DataError(list_findings(f"{path}: not valid A-OKVQA", findings, _REMEDY))
    return questions


def parse_questions(root: Path, split: str) -> tuple[list[Question], dict[str, str]]:
    """Read the questions of a split without looking at images or quarantine.

    Returns:
        The good ones in file order, and what is wrong with the others by their id, or by
        "row <number>" where they have none.

    Raises:
        DataError: a missing or malformed file.
    """
    return _parse(questions_file(root, split), root / "images", _read_places(root))


def load_published(path: Path) -> list[Question]:
    """Read a published file of questions by itself; images are neither looked for nor named.

    Raises:
        DataError: a missing, malformed or empty file; else lists all bad questions, among them
            those without a right choice.
    """
    questions, bad = _parse(path, Path(), None)
    if bad:
        raise DataError(list_findings(f"{path}: not valid A-OKVQA", [*bad.values()], _REMEDY))
    if not questions:
        raise DataError(f"{path}: holds no question. {_REMEDY}")
    return questions


def _parse(
    path: Path, images: Path, places: Mapping[str, str] | None
) -> tuple[list[Question], dict[str, str]]:
    """Read a file of questions; `places` below `images` are not asked for where None."""
    rows = read_json(path, remedy=_REMEDY)
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}, expected a list. {_REMEDY}")
    questions: dict[str, Question] = {}
    bad: dict[str, str] = {}
    for number, row in enumerate(rows):
        raw = row if isinstance(row, dict) else {}
        known = raw.get("question_id")
        item_id = known if isinstance(known, str) and known else f"row {number}"
        findings = _row_findings(raw, places)
        if item_id in questions:
            findings.append("occurs twice")
        if findings:
            bad[item_id] = f"{path}: question {item_id}: {'; '.join(findings)}"
        else:
            place = places[str(raw["image_id"])] if places else ""
            questions[item_id] = _question(raw, images / place)
    return list(questions.values()), bad


def _row_findings(row: Mapping[str, Any], places: Mapping[str, str] | None) -> list[str]:
    findings = []
    choices, answer = row.get("choices"), row.get("correct_choice_idx")
    texts = [("question_id", row.get("question_id")), ("question", row.get("question"))]
    findings += [
        f"{name} is {text!r:.80}, expected text"
        for name, text in texts
        if not isinstance(text, str) or not text.strip()
    ]
    if not (
        isinstance(choices, list)
        and len(choices) == _NUM_CHOICES
        and all(isinstance(choice, str) and choice for choice in choices)
    ):
        findings.append(f"choices are {choices!r:.80}, expected {_NUM_CHOICES} texts")
    elif halves := surrogate_findings([*texts, *(("choices", choice) for choice in choices)]):
        findings += halves
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < _NUM_CHOICES:
        findings.append(
            f"correct_choice_idx is {answer!r:.80}, expected 0 to {_NUM_CHOICES - 1} "
            "(the right choices of test are not public)"
        )
    image_id = row.get("image_id")
    if isinstance(image_id, bool) or not isinstance(image_id, int):
        findings.append(f"image_id is {image_id!r:.80}, expected a number")
    elif places is not None and str(image_id) not in places:
        findings.append(f"image {image_id} is not in {IMAGES_FILE}")
    return findings


def _question(row: Mapping[str, Any], image: Path) -> Question:
    rationales = row.get("rationales") or [""]
    return Question(
        question_id=row["question_id"],
        question=row["question"],
        choices=tuple(row["choices"]),
        answer_index=row["correct_choice_idx"],
        rationale=str(rationales[0]),
        image_id=row["image_id"],
        image=image,
    )


def _read_places(root: Path) -> dict[str, str]:
    path = root / IMAGES_FILE
    found = read_json(path, remedy=_REMEDY)
    is_good = isinstance(found, dict) and all(
        isinstance(name, str) and ".." not in PurePosixPath(name).parts and not name.startswith("/")
        for name in found.values()
    )
    if not is_good:
        raise DataError(f"{path}: expected places below {root / 'images'} by number. {_REMEDY}")
    return dict(found)
