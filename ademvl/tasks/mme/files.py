"""Reads answers to MME from one file of all tasks, as LLaVA, lmms-eval and VLMEvalKit write them.

LLaVA's answers name a picture by `question_id` ("OCR/0001.jpg") and have no right answers: these
come from the benchmark's folder, found by the question in `prompt` without what LLaVA adds to it or
takes away. lmms-eval's samples hold question and right answer in `doc`, VLMEvalKit's tables in
columns (category, image_path, question, answer, prediction).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.tasks.mme.reader import TASKS, MmeAnswer, load_benchmark
from ademvl.tasks.row_files import read_rows_or_json, single_value

_REMEDY = (
    "Give rows with question_id (task/picture), prompt and text, two for each picture; "
    "docs/scoring.md lists what else can be read."
)
_ADDED = re.compile(
    r"<image>|answer the question using a single word or phrase\.|please answer yes or no\.",
    re.IGNORECASE,
)

Rights = Mapping[tuple[str, str, str], str]
"""Right answers by task, picture without suffix, and question as `_key` gives it."""


def read_mme_answers(path: Path, benchmark: Path | None) -> dict[str, list[MmeAnswer]]:
    """Read the answers of a file by task, the two of a picture one after the other.

    Args:
        path: .json, .jsonl, .tsv, .csv or .xlsx.
        benchmark: folder of the benchmark; needed where the file has no right answers.

    Raises:
        DataError: malformed file; or lists rows without task, picture, question or answer, with
            one that the benchmark does not have, and pictures that have not two questions.
        SettingsError: right answers are missing, and no benchmark is given.
        ToolError: see `read_rows_or_json`.
    """
    content = read_rows_or_json(path, remedy=_REMEDY)
    if isinstance(content, dict):
        content = content["logs"] if isinstance(content.get("logs"), list) else [content]
    if not isinstance(content, list):
        raise DataError(f"{path}: holds a {type(content).__name__}, expected rows. {_REMEDY}")
    rights = None if benchmark is None else _right_answers(benchmark)
    findings: list[str] = []
    tasks: dict[str, dict[str, list[MmeAnswer]]] = {}
    for number, row in enumerate(content, start=1):
        found = _answer(row if isinstance(row, dict) else {}, rights)
        if isinstance(found, str):
            findings.append(f"row {number}: {found}")
            continue
        task, answer = found
        same_picture = tasks.setdefault(task, {}).setdefault(answer.image, [])
        if any(_key(answer.question) == _key(other.question) for other in same_picture):
            findings.append(f"row {number}: this question to {task}/{answer.image} occurs twice")
        same_picture.append(answer)
    if rights is None and any(_NO_RIGHT in finding for finding in findings):
        raise SettingsError(f"{path}: holds no right answers; name the benchmark with --benchmark")
    if not findings:
        findings = [
            f"{task}/{image}: {len(answers)} questions, expected 2"
            for task, images in tasks.items()
            for image, answers in images.items()
            if len(answers) != 2
        ]
    if findings:
        raise DataError(list_findings(f"{path}: answers cannot be read", findings, _REMEDY))
    return {
        task: [row for rows in images.values() for row in rows] for task, images in tasks.items()
    }


_NO_RIGHT = "no right answer"


def _answer(row: Mapping[str, Any], rights: Rights | None) -> tuple[str, MmeAnswer] | str:
    """Return a row's task and answer, or what is wrong with it."""
    doc: Mapping[str, Any] = row["doc"] if isinstance(row.get("doc"), dict) else row
    place = _text(doc, ("question_id", "image_path"))
    task, image = _text(doc, ("category",)) or place.split("/")[0], place.split("/")[-1]
    if task not in TASKS:
        return f"task is {task!r:.80}, expected one of {', '.join(TASKS)}"
    if not image or image == task:
        return f"picture is {place!r:.80}, expected task/picture"
    question = _text(doc, ("question", "prompt"))
    if not question:
        return "no question (keys: prompt, question)"
    said = single_value(_first(row, ("text", "filtered_resps", "resps", "prediction")))
    if not isinstance(said, str):
        return "no answer that is text (keys: text, filtered_resps, prediction)"
    gold = _text(row, ("target",)) or _text(doc, ("answer",))
    known = (rights or {}).get(picture_and_question(task, image, question), "")
    if rights is not None and not known:
        return f"{task}/{image}: the benchmark does not ask {question[:80]!r}"
    if not gold and not known:
        return _NO_RIGHT
    if gold and gold.strip().lower() not in ("yes", "no"):
        return f"right answer is {gold!r:.80}, expected Yes or No"
    if gold and known and gold.strip().lower() != known.strip().lower():
        return f"{task}/{image}: right answer is {gold!r}, the benchmark has {known!r}"
    return task, MmeAnswer(image, question, known or gold, said)


def _first(row: Mapping[str, Any], keys: Sequence[str]) -> object:
    return next((row[key] for key in keys if key in row), None)


def _text(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    value = _first(row, keys)
    return value if isinstance(value, str) else ""


def picture_and_question(task: str, image: str, question: str) -> tuple[str, str, str]:
    """Return what a question is known by: task, picture without suffix, and its text alone."""
    return task, Path(image).stem, _key(question)


def _key(question: str) -> str:
    return "".join(_ADDED.sub("", question).split()).casefold()


def _right_answers(benchmark: Path) -> Rights:
    return {
        picture_and_question(question.task, question.image.name, question.question): question.gold
        for question in load_benchmark(benchmark)
    }
