"""Scores ScienceQA predictions that other programs wrote, in the shapes they are published in.

A prediction is the index of a choice from 0, -1 for none, or text, which is read by the rules of
`free_text`, or by the paper's: the first capital letter. What names no choice is wrong, as
everywhere here, and counted.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ademvl.data.choices import NO_ANSWER, TextRule, choice_named
from ademvl.errors import DataError, list_findings
from ademvl.tasks.row_files import read_rows_or_json
from ademvl.tasks.scienceqa.free_text import read_choice
from ademvl.tasks.scienceqa.prediction_formats import Entries, find_shape
from ademvl.tasks.scienceqa.reader import Problem, load_problems
from ademvl.tasks.scienceqa.scores import score_scienceqa
from ademvl.tasks.score_table import describe_file, interval_cell
from ademvl.text_table import aligned

_REMEDY = "Give one prediction for each question: an index from 0, a letter, or text."
_INTEGER = re.compile(r"-1|\d{1,3}")
_CLAIM_TOLERANCE = 0.005  # percentage points: rounding of two published decimals

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a file predicts.

    Attributes:
        shape: of the file, in words.
        problems: the questions asked: all, or those with an image.
        predicted_index: by question id; NO_ANSWER where no choice is named.
        read_by: number of predictions by the rule that read them.
        claimed_percent: accuracy that the file itself states, None without one.
    """

    shape: str
    problems: Sequence[Problem]
    predicted_index: Mapping[str, int]
    read_by: Mapping[str, int]
    claimed_percent: float | None

    @property
    def without_answer(self) -> list[str]:
        """Return the questions for which no choice is named."""
        return [key for key, index in self.predicted_index.items() if index == NO_ANSWER]


def score_prediction_file(
    problems_file: Path, predictions_file: Path, *, split: str, rule: TextRule = "free-text"
) -> dict[str, Any]:
    """Score a file of predictions; the result is ready for JSON.

    Raises:
        DataError: a file is missing or malformed; or lists predictions that occur twice, are
            missing, belong to no question of the split, or name a choice that is not there.
        SettingsError: no such split.
        ToolError: see `read_rows_or_json`.
    """
    asked = load_problems(problems_file, split)
    predictions = read_predictions(predictions_file, asked, rule=rule)
    problems = predictions.problems
    try:
        columns = score_scienceqa(problems, predictions.predicted_index)
    except DataError as error:
        raise DataError(f"{predictions_file}: {error}") from error
    scores = {name: column.to_json() for name, column in columns.items()}
    _compare_with_claim(predictions_file, predictions.claimed_percent, scores["AVG"])
    without_answer = predictions.without_answer
    return {
        "task": "scienceqa",
        "split": split,
        "questions": "all" if len(problems) == len(asked) else "with an image",
        "n": len(problems),
        "problems": describe_file(problems_file),
        "predictions": describe_file(predictions_file) | {"shape": predictions.shape},
        "columns": scores,
        "text_rule": rule,
        "read_by": dict(predictions.read_by),
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
    table = "\n".join(aligned([["column", "n", "accuracy %", "95 % (Wilson)"], *rows]))
    read_by = ", ".join(f"{rule} {count}" for rule, count in scores["read_by"].items())
    return f"{table}\nread by: {read_by}"


def read_predictions(
    path: Path, problems: Sequence[Problem], *, rule: TextRule = "free-text"
) -> Predictions:
    """Read predictions in any published shape; what names no choice is warned of.

    Args:
        problems: the questions asked, in the order of the split.
        rule: for texts: those of `free_text`, or the paper's, by the first capital letter.

    Raises:
        DataError: malformed file; or lists questions that occur twice and predictions that are
            neither index nor text. Which questions are answered is for `score_scienceqa`.
        ToolError: see `read_rows_or_json`.
    """
    content = read_rows_or_json(path, remedy=_REMEDY)
    shape = find_shape(str(path), content, problems)
    choices = {problem.question_id: problem.choices for problem in problems}
    read_text = _read_index if _are_indices(shape.entries, choices) else _TEXT_RULES[rule]
    findings = []
    predicted: dict[str, int] = {}
    read_by: Counter[str] = Counter()
    for question_id, value in shape.entries:
        if question_id in predicted:
            findings.append(f"question {question_id}: predicted more than once")
            continue
        if isinstance(value, str):
            known = choices.get(question_id, ())
            predicted[question_id], read = read_text(value, known)
        elif isinstance(value, int) and not isinstance(value, bool):
            predicted[question_id] = value
            read = "index" if value != NO_ANSWER else "stated_none"
        else:
            predicted[question_id], read = NO_ANSWER, "refused"
            what = f"prediction is {value!r:.200}, expected an index, a letter or text"
            findings.append(f"question {question_id}: {what}")
        read_by[read] += 1
    if findings:
        raise DataError(list_findings(f"{path}: predictions cannot be read", findings, _REMEDY))
    found = Predictions(
        shape=shape.name,
        problems=shape.problems,
        predicted_index=predicted,
        read_by=dict(sorted(read_by.items())),
        claimed_percent=_claimed_percent(content),
    )
    _warn(path, found, num_asked=len(problems))
    return found


def _warn(path: Path, found: Predictions, *, num_asked: int) -> None:
    if len(found.problems) < num_asked:
        what = "%s: answers the %d questions with an image alone; all columns are of these"
        _log.warning(what, path, len(found.problems))
    if found.without_answer:
        _log.warning(
            "%s: %d of %d predictions name no choice and count as wrong: questions %s",
            path,
            len(found.without_answer),
            len(found.predicted_index),
            ", ".join(found.without_answer[:20]),
        )


def _are_indices(entries: Entries, choices: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether texts are indices: some are numbers, and no other one names a choice.

    Questions without answer, blank or "FAILED", do not turn the others' indices into texts.
    """
    texts = [(key, value.strip()) for key, value in entries if isinstance(value, str)]
    others = [(key, text) for key, text in texts if not _INTEGER.fullmatch(text)]
    return len(others) < len(texts) and all(
        read_choice(text, choices.get(key, ())).index == NO_ANSWER for key, text in others
    )


def _read_index(text: str, choices: Sequence[str]) -> tuple[int, str]:
    if _INTEGER.fullmatch(text.strip()):
        index = int(text)
        return index, "index" if index != NO_ANSWER else "stated_none"
    return NO_ANSWER, read_choice(text, choices).rule


def _read_free_text(text: str, choices: Sequence[str]) -> tuple[int, str]:
    found = read_choice(text, choices)
    return found.index, found.rule


def _read_first_capital(text: str, choices: Sequence[str]) -> tuple[int, str]:
    index = choice_named(text, num_choices=len(choices))
    return index, "first_capital" if index != NO_ANSWER else "unread"


_TEXT_RULES: Mapping[TextRule, Callable[[str, Sequence[str]], tuple[int, str]]] = {
    "free-text": _read_free_text,
    "first-capital": _read_first_capital,
}


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
