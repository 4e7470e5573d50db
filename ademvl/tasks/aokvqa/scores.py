"""Scores of A-OKVQA's multiple choice: the share of right choices."""

from collections.abc import Sequence

from ademvl.data.choices import NO_ANSWER
from ademvl.statistics.intervals import wilson_interval
from ademvl.tasks.aokvqa.facts import FACTS
from ademvl.tasks.aokvqa.reader import Question


def score_choices(questions: Sequence[Question], chosen: Sequence[int]) -> dict[str, object]:
    """Return the share of right choices, with its Wilson interval, ready for JSON.

    Args:
        chosen: index of each, `NO_ANSWER` where none was named.
    """
    pairs = zip(chosen, questions, strict=True)
    right = sum(index == item.answer_index for index, item in pairs)
    accuracy = wilson_interval(right, len(questions)).as_percent()
    return {
        "columns": {FACTS.main: {**accuracy, "correct": right}},
        "num_without_answer": list(chosen).count(NO_ANSWER),
    }
