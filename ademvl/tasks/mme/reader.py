"""Reads the MME benchmark's folder and its answer files, strictly.

Benchmark layout: one folder a task. Each image has a text of the same name with two lines, question
and gold answer, separated by a tab. Images and texts lie together, or in `images/` and
`questions_answers_YN/`. An answer file is `<task>.txt`, a line a question: image, question, gold
answer, model's answer, separated by tabs; the two questions of an image follow each other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from ademvl.errors import DataError, list_findings
from ademvl.storage.files import read_text, write_text

PERCEPTION: Mapping[str, int] = {
    "existence": 60,
    "count": 60,
    "position": 60,
    "color": 60,
    "posters": 294,
    "celebrity": 340,
    "scene": 400,
    "landmark": 400,
    "artwork": 400,
    "OCR": 40,
}
"""Tasks in their published order, with their number of questions."""
COGNITION: Mapping[str, int] = {
    "commonsense_reasoning": 140,
    "numerical_calculation": 40,
    "text_translation": 40,
    "code_reasoning": 40,
}
TASKS: Mapping[str, int] = {**PERCEPTION, **COGNITION}
TASK_POINTS = 200.0
"""Of a task at most."""

IMAGE_SUFFIXES = (".jpg", ".png", ".jpeg")
_GOLD = ("yes", "no")
_SEPARATORS = re.compile("[\t\n\r]")
_REMEDY = "Fetch the benchmark again, or complete it by hand."
_ANSWERS_REMEDY = "Give image, question, gold answer and answer, two lines for each image."


@dataclass(frozen=True)
class MmeQuestion:
    """One yes/no question.

    Attributes:
        task: name of its folder.
        image: file of the picture.
        question: text as published.
        gold: right answer as published, "Yes" or "No".
    """

    task: str
    image: Path
    question: str
    gold: str


@dataclass(frozen=True)
class MmeAnswer:
    """One line of an answer file; `image` is the picture's file name."""

    image: str
    question: str
    gold: str
    answer: str


def load_benchmark(root: Path) -> list[MmeQuestion]:
    """Read the questions of all tasks that the folder holds, in their published order.

    Raises:
        DataError: no task at all; or lists texts without image, and texts that are not two
            questions with Yes or No.
    """
    questions, findings = parse_benchmark(root)
    if findings:
        raise DataError(list_findings(f"{root}: not the MME benchmark", findings, _REMEDY))
    return questions


def parse_benchmark(root: Path) -> tuple[list[MmeQuestion], list[str]]:
    """Read the questions that are good; return them and what is wrong with the others."""
    findings: list[str] = []
    questions: list[MmeQuestion] = []
    for task in TASKS:
        folder = root / task
        if not folder.is_dir():
            continue
        texts_dir, images_dir = folder / "questions_answers_YN", folder / "images"
        texts_dir = texts_dir if texts_dir.is_dir() else folder
        images_dir = images_dir if images_dir.is_dir() else folder
        texts = sorted(texts_dir.glob("*.txt"))
        if not texts:
            findings.append(f"{texts_dir}: no questions")
        for path in texts:
            questions += _image_questions(task, path, images_dir, findings)
    if not questions and not findings:
        known = ", ".join(TASKS)
        findings.append(f"{root}: no folder of a task ({known})")
    return questions, findings


def load_answers(path: Path) -> list[MmeAnswer]:
    """Read one task's answer file; a tab within an answer belongs to the answer.

    Raises:
        DataError: missing file; or lists lines without four fields, gold answers that are not Yes
            or No, questions that occur twice, and images without two questions in succession.
    """
    lines = read_text(path, remedy=_ANSWERS_REMEDY).rstrip("\n").split("\n")
    findings: list[str] = []
    answers: list[MmeAnswer] = []
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t", 3)
        if len(fields) < 4:
            findings.append(f"line {number}: {len(fields)} fields, expected 4 separated by tabs")
            continue
        answer = MmeAnswer(*fields)
        if answer.gold.strip().lower() not in _GOLD:
            findings.append(f"line {number}: gold answer is {answer.gold!r}, expected Yes or No")
        if (answer.image, answer.question) in seen:
            findings.append(f"line {number}: this question to {answer.image} occurs twice")
        seen.add((answer.image, answer.question))
        answers.append(answer)
    if not findings:
        findings += _pair_findings(answers)
    if findings:
        headline = f"{path}: not an MME answer file"
        raise DataError(list_findings(headline, findings, _ANSWERS_REMEDY))
    return answers


def write_answers(folder: Path, answers: Mapping[str, Sequence[MmeAnswer]]) -> None:
    """Write the answer file of each task; tabs and line breaks within a field become blanks."""
    for task, rows in answers.items():
        lines = ["\t".join(map(_one_field, astuple(row))) for row in rows]
        write_text(folder / f"{task}.txt", "".join(f"{line}\n" for line in lines))


def _one_field(text: str) -> str:
    return _SEPARATORS.sub(" ", text)


def _image_questions(
    task: str, path: Path, images_dir: Path, findings: list[str]
) -> list[MmeQuestion]:
    images = [images_dir / f"{path.stem}{suffix}" for suffix in IMAGE_SUFFIXES]
    image = next((candidate for candidate in images if candidate.is_file()), None)
    if image is None:
        findings.append(f"{path}: no image {path.stem}.jpg or .png in {images_dir}")
        return []
    try:
        lines = read_text(path, remedy="").strip().split("\n")
    except DataError as error:
        findings.append(str(error).strip())
        return []
    rows = [line.strip().split("\t") for line in lines]
    if len(rows) != 2 or any(len(row) != 2 or row[1].lower() not in _GOLD for row in rows):
        findings.append(f"{path}: expected two lines of a question, a tab, and Yes or No")
        return []
    return [MmeQuestion(task, image, question, gold) for question, gold in rows]


def _pair_findings(answers: list[MmeAnswer]) -> list[str]:
    """Describe images whose two questions do not stand together."""
    findings = []
    for start in range(0, len(answers), 2):
        pair = answers[start : start + 2]
        if len(pair) < 2 or pair[0].image != pair[1].image:
            findings.append(
                f"line {start + 1}: image {pair[0].image} has no second question on the next line"
            )
    return findings
