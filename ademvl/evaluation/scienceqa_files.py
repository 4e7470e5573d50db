"""Scores ScienceQA predictions that other programs wrote, in the shapes they are published in.

Shapes: an object from question id to prediction; result files that hold one under `results`
(GPT-3's, LLaVA's) or `outputs`; LLaVA's lists `correct` and `incorrect`; a list, or one object a
line, of rows with an id (LLaVA's answers, our own predictions); and MM-CoT's lists `preds` and
`labels`, whose order is made sure of by the labels.

A prediction is the index of a choice from 0, -1 for none, a letter, or text. Text is read by the
rule of the data set's own tools, "The answer is B.", or is a letter, begins with one ("B. no"), or
is the choice itself. What names no choice is wrong, as everywhere here, and counted.
"""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ademvl.data.choices import NO_ANSWER
from ademvl.data.scienceqa import Problem, load_problems
from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.evaluation.scienceqa import score_scienceqa
from ademvl.evaluation.score_table import describe_file, format_table, interval_cell
from ademvl.storage.files import read_json_or_lines

ID_KEYS = ("question_id", "id", "qid", "pid")
PREDICTION_KEYS = (
    *("predicted_index", "pred_idx", "parsed_ans", "prediction", "pred", "predicted"),
    *("text", "output"),
)
_REMEDY = "Give one prediction for each question: an index from 0, a letter, or text."
_SHAPES = "docs/scoring.md lists the shapes that can be read."
_LETTER = re.compile(r"\(?([A-Z])\)?[.:]?")
_LEADING_LETTER = re.compile(r"(?:\(([A-Z])\)|([A-Z])[.:)])\s")
_STATED_LETTER = re.compile(r"[Tt]he answer is:? \(?([A-Z])(?![A-Za-z])")
_INTEGER = re.compile(r"-1|\d{1,3}")
_CLAIM_TOLERANCE = 0.005  # percentage points: rounding of two published decimals

_log = logging.getLogger(__name__)

Entries = list[tuple[str, object]]


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a file predicts.

    Attributes:
        shape: of the file, in words.
        predicted_index: by question id; NO_ANSWER where no choice is named.
        claimed_percent: accuracy that the file itself states, None without one.
    """

    shape: str
    predicted_index: Mapping[str, int]
    claimed_percent: float | None

    @property
    def without_answer(self) -> list[str]:
        """Return the questions for which no choice is named."""
        return [key for key, index in self.predicted_index.items() if index == NO_ANSWER]


def score_prediction_file(
    problems_file: Path, predictions_file: Path, *, split: str
) -> dict[str, object]:
    """Score a file of predictions; the result is ready for JSON.

    Raises:
        DataError: a file is missing or malformed; or lists predictions that occur twice, are
            missing, belong to no question of the split, or name a choice that is not there.
        SettingsError: no such split.
    """
    dataset = load_problems(problems_file)
    if split not in dataset.splits:
        known = ", ".join(dataset.splits)
        raise SettingsError(f"--split: {split!r} is none of {problems_file}: {known}")
    problems = dataset.split(split)
    if not problems:
        raise DataError(f"{problems_file}: no question in split {split!r}. Name another split.")
    predictions = read_predictions(predictions_file, problems)
    columns = score_scienceqa(problems, predictions.predicted_index)
    scores = {name: column.to_json() for name, column in columns.items()}
    _compare_with_claim(predictions_file, predictions.claimed_percent, scores["AVG"])
    without_answer = predictions.without_answer
    if without_answer:
        _log.warning(
            "%d of %d predictions name no choice and count as wrong: questions %s",
            len(without_answer),
            len(problems),
            ", ".join(without_answer[:20]),
        )
    return {
        "task": "scienceqa",
        "split": split,
        "n": len(problems),
        "problems": describe_file(problems_file),
        "predictions": describe_file(predictions_file) | {"shape": predictions.shape},
        "columns": scores,
        "num_without_answer": len(without_answer),
        "questions_without_answer": without_answer,
        "claimed_percent": predictions.claimed_percent,
    }


def scienceqa_table(scores: Mapping[str, Any]) -> str:
    """Render the nine published columns with their n and interval."""
    rows = []
    for name, column in scores["columns"].items():
        if column is None:
            rows.append([name, "0", "-", "-"])
        else:
            interval = interval_cell(column, decimals=2)
            rows.append([name, str(column["n"]), f"{column['percent']:.2f}", interval])
    return format_table(["column", "n", "accuracy %", "95 % (Wilson)"], rows)


def read_predictions(path: Path, problems: Sequence[Problem]) -> Predictions:
    """Read predictions in any published shape.

    Args:
        path: file of predictions.
        problems: the questions asked, in the order of the split.

    Raises:
        DataError: malformed file; or lists questions that occur twice and predictions that are
            neither index nor text. Which questions are answered is for `score_scienceqa`.
    """
    content = read_json_or_lines(path, remedy=_REMEDY)
    shape, entries = _entries(path, content, problems)
    choices = {problem.question_id: problem.choices for problem in problems}
    are_indices = all(
        isinstance(value, str) and _INTEGER.fullmatch(value.strip()) for _, value in entries
    )
    findings = []
    predicted: dict[str, int] = {}
    for question_id, value in entries:
        if question_id in predicted:
            findings.append(f"question {question_id}: predicted more than once")
            continue
        if isinstance(value, str):
            known = choices.get(question_id, ())
            predicted[question_id] = int(value) if are_indices else choice_in_text(value, known)
        elif isinstance(value, int) and not isinstance(value, bool):
            predicted[question_id] = value
        else:
            predicted[question_id] = NO_ANSWER
            what = f"prediction is {value!r}, expected an index, a letter or text"
            findings.append(f"question {question_id}: {what}")
    if findings:
        raise DataError(list_findings(f"{path}: predictions cannot be read", findings, _REMEDY))
    return Predictions(
        shape=shape, predicted_index=predicted, claimed_percent=_claimed_percent(content)
    )


def choice_in_text(text: str, choices: Sequence[str]) -> int:
    """Return the 0-based choice that generated text names, or NO_ANSWER.

    In this order: a letter alone; a letter at the beginning ("B. no", "(B) no"); the letter of
    "The answer is B", if all such sentences name the same; the text of exactly one choice.
    """
    text = text.strip()
    found = _LETTER.fullmatch(text) or _LEADING_LETTER.match(text)
    letters = {letter for letter in found.groups() if letter} if found else set()
    letters = letters or set(_STATED_LETTER.findall(text))
    if not letters:
        spelled = text.rstrip(".").casefold()
        matching = [
            index
            for index, choice in enumerate(choices)
            if choice.strip().rstrip(".").casefold() == spelled
        ]
        return matching[0] if len(matching) == 1 else NO_ANSWER
    index = ord(letters.pop()) - ord("A")
    return NO_ANSWER if letters or index >= len(choices) else index


def _entries(path: Path, content: Any, problems: Sequence[Problem]) -> tuple[str, Entries]:
    """Return the shape of a file in words, and its (question id, prediction) pairs."""
    if isinstance(content, list):
        return "list of rows", _rows(path, content)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {content!r}, expected predictions. {_SHAPES}")
    for key in ("results", "outputs"):
        if isinstance(content.get(key), dict):
            return f"result file, its {key!r}", _pairs(content[key])
        if isinstance(content.get(key), list):
            return f"result file, its {key!r}", _rows(path, content[key])
    if isinstance(content.get("correct"), list) and isinstance(content.get("incorrect"), list):
        return "lists 'correct' and 'incorrect'", _rows(
            path, content["correct"] + content["incorrect"]
        )
    if isinstance(content.get("preds"), list) and isinstance(content.get("labels"), list):
        return "lists 'preds' and 'labels'", _in_order(path, content, problems)
    if any(key in content for key in ID_KEYS):
        return "one row", _rows(path, [content])
    if content and not any(problem.question_id in content for problem in problems):
        keys = ", ".join(map(repr, list(content)[:10]))
        raise DataError(
            f"{path}: holds no prediction of any question of the split, but {keys}. {_SHAPES}"
        )
    return "question id to prediction", _pairs(content)


def _pairs(content: Mapping[str, object]) -> Entries:
    return [
        (key, _prediction_in(value) if isinstance(value, dict) else value)
        for key, value in content.items()
    ]


def _rows(path: Path, rows: Sequence[object]) -> Entries:
    entries: Entries = []
    findings = []
    for number, row in enumerate(rows, start=1):
        fields = row if isinstance(row, dict) else {}
        question_id = next((fields[key] for key in ID_KEYS if key in fields), None)
        if isinstance(question_id, int) and not isinstance(question_id, bool):
            question_id = str(question_id)
        if not isinstance(question_id, str):
            findings.append(f"row {number}: no question id (keys: {', '.join(ID_KEYS)})")
        elif not fields.keys() & set(PREDICTION_KEYS):
            findings.append(f"row {number}: no prediction (keys: {', '.join(PREDICTION_KEYS)})")
        else:
            entries.append((question_id, _prediction_in(fields)))
    if findings:
        raise DataError(list_findings(f"{path}: rows cannot be read", findings, _SHAPES))
    return entries


def _prediction_in(row: Mapping[str, object]) -> object:
    return next((row[key] for key in PREDICTION_KEYS if key in row), None)


def _in_order(
    path: Path, content: Mapping[str, list[object]], problems: Sequence[Problem]
) -> Entries:
    """Assign predictions without ids to the questions in order, if all labels confirm it."""
    predictions, labels = content["preds"], content["labels"]
    if not len(predictions) == len(labels) == len(problems):
        raise DataError(
            f"{path}: {len(predictions)} 'preds' and {len(labels)} 'labels' for "
            f"{len(problems)} questions. {_REMEDY}"
        )
    findings = [
        f"question {problem.question_id}: the label at its place is {label!r}, "
        f"but its answer is choice {problem.answer_index}"
        for problem, label in zip(problems, labels, strict=True)
        if choice_in_text(str(label), problem.choices) != problem.answer_index
    ]
    if findings:
        remedy = "Predictions without ids can be scored in the order of pid_splits.json only."
        raise DataError(list_findings(f"{path}: another order of questions", findings, remedy))
    ids = (problem.question_id for problem in problems)
    return list(zip(ids, predictions, strict=True))


def _claimed_percent(content: object) -> float | None:
    claimed = content.get("acc") if isinstance(content, dict) else None
    if isinstance(claimed, bool) or not isinstance(claimed, int | float):
        return None
    return float(claimed) if math.isfinite(claimed) else None


def _compare_with_claim(path: Path, claimed: float | None, found: Mapping[str, Any] | None) -> None:
    if claimed is None or found is None:
        return
    if abs(claimed - found["percent"]) > _CLAIM_TOLERANCE:
        _log.warning(
            "%s: states an accuracy of %.2f %%, but its predictions give %.2f %%",
            path,
            claimed,
            found["percent"],
        )
