"""Accuracy on ScienceQA in its nine published columns, with Wilson intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ademvl.data.choices import NO_ANSWER
from ademvl.errors import DataError, list_findings
from ademvl.statistics.intervals import Estimate, wilson_interval

if TYPE_CHECKING:
    from ademvl.tasks.scienceqa.reader import Problem


def _grade(problem: "Problem") -> int:
    return int(problem.grade.removeprefix("grade"))


# The columns of the published tables, in their order. "Has text" means a hint; a question can
# have both text and image, and "no context" means neither.
COLUMNS: Mapping[str, Callable[["Problem"], bool]] = {
    "NAT": lambda problem: problem.subject == "natural science",
    "SOC": lambda problem: problem.subject == "social science",
    "LAN": lambda problem: problem.subject == "language science",
    "TXT": lambda problem: problem.has_text_context,
    "IMG": lambda problem: problem.has_image,
    "NO": lambda problem: not (problem.has_text_context or problem.has_image),
    "G1-6": lambda problem: 1 <= _grade(problem) <= 6,
    "G7-12": lambda problem: 7 <= _grade(problem) <= 12,
    "AVG": lambda problem: True,
}


@dataclass(frozen=True, kw_only=True)
class ColumnScore:
    """Accuracy on the questions of one column.

    Attributes:
        n: questions.
        correct: of them answered correctly.
        accuracy: correct / n with its Wilson interval; None without questions.
    """

    n: int
    correct: int
    accuracy: Estimate | None

    def to_json(self) -> dict[str, float | int | str] | None:
        """Render for a score file, in percent; null for a column without questions."""
        if self.accuracy is None:
            return None
        return {**self.accuracy.as_percent(), "correct": self.correct}


def score_scienceqa(
    problems: Sequence["Problem"], predicted_index: Mapping[str, int]
) -> dict[str, ColumnScore]:
    """Score predictions in the nine published columns, in their published order.

    Args:
        predicted_index: 0-based choice by question id, NO_ANSWER for none, which is wrong.

    Raises:
        DataError: a question without prediction, a prediction without question, or a choice that
            the question does not have.
    """
    _check(problems, predicted_index)
    correct = right_answers(problems, predicted_index)
    scores = {}
    for column, belongs in COLUMNS.items():
        asked = zip(problems, correct, strict=True)
        members = [is_right for problem, is_right in asked if belongs(problem)]
        accuracy = wilson_interval(sum(members), len(members)) if members else None
        scores[column] = ColumnScore(n=len(members), correct=sum(members), accuracy=accuracy)
    return scores


def right_answers(problems: Sequence["Problem"], predicted_index: Mapping[str, int]) -> list[bool]:
    """Return whether each question is answered right."""
    return [predicted_index[problem.question_id] == problem.answer_index for problem in problems]


def _check(problems: Sequence["Problem"], predicted_index: Mapping[str, int]) -> None:
    asked = {problem.question_id for problem in problems}
    findings = []
    for problem in problems:
        index = predicted_index.get(problem.question_id)
        if index is None:
            findings.append(f"question {problem.question_id}: no prediction")
        elif not NO_ANSWER <= index < len(problem.choices):
            findings.append(
                f"question {problem.question_id}: predicted choice {index}, "
                f"but it has choices 0 to {len(problem.choices) - 1} ({NO_ANSWER} for no answer)"
            )
    findings += [
        f"question {question_id}: a prediction, but it was not asked"
        for question_id in predicted_index
        if question_id not in asked
    ]
    if findings:
        remedy = "Predict exactly the questions of the split, one choice each."
        raise DataError(list_findings("predictions cannot be scored", findings, remedy))
