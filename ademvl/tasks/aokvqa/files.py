"""Scores A-OKVQA predictions that other programs wrote: texts of choices by question."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ademvl.data.choices import NO_ANSWER
from ademvl.errors import DataError, list_findings
from ademvl.tasks.aokvqa.reader import Question, load_published
from ademvl.tasks.aokvqa.scores import score_choices
from ademvl.tasks.base import FileAnswers
from ademvl.tasks.row_files import read_rows_or_json
from ademvl.tasks.score_table import describe_file, interval_cell
from ademvl.text_table import aligned

_REMEDY = "Give an object with the text of a choice for each question id."


def read_answers(path: Path, questions: Sequence[Question]) -> FileAnswers:
    """Read texts of choices by question, as the benchmark's own evaluation does.

    A file for its leaderboard, which has objects with `multiple_choice`, is read as well. What is
    no choice, to the letter, counts as no answer.

    Raises:
        DataError: malformed file; or lists predictions that are no text.
        ToolError: see `read_rows_or_json`.
    """
    content = read_rows_or_json(path, remedy=_REMEDY)
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds a {type(content).__name__}. {_REMEDY}")
    asked = {item.question_id: item for item in questions}
    values: dict[str, int] = {}
    findings = []
    for item_id, value in content.items():
        text = value.get("multiple_choice") if isinstance(value, dict) else value
        if isinstance(text, str):
            values[item_id] = _index_of(text, asked.get(item_id))
        elif isinstance(value, dict):
            findings.append(f"question {item_id}: multiple_choice is {text!r:.80}, expected text")
        else:
            findings.append(f"question {item_id}: {text!r:.80}, expected text")
    if findings:
        raise DataError(list_findings(f"{path}: predictions cannot be read", findings, _REMEDY))
    unread = sum(index == NO_ANSWER for index in values.values())
    return FileAnswers(values=values, num_unread=unread)


def _index_of(text: str, question: Question | None) -> int:
    """Return the choice that a text is: of choices with the same text the right one, if it is."""
    if question is None or text not in question.choices:
        return NO_ANSWER
    right = question.answer_index
    return right if question.choices[right] == text else question.choices.index(text)


def score_answer_file(questions_file: Path, answers_file: Path) -> dict[str, Any]:
    """Score a file of choices; the result is ready for JSON.

    Args:
        questions_file: as published, of a split whose right choices are public.
        answers_file: see `read_answers`.

    Raises:
        DataError: a file is missing or malformed; or lists questions without an answer, and
            answers to no question of the file.
        ToolError: see `read_rows_or_json`.
    """
    questions = load_published(questions_file)
    found = read_answers(answers_file, questions).values
    asked = {item.question_id for item in questions}
    findings = [f"question {item}: no prediction" for item in asked - found.keys()]
    findings += [f"question {item}: not in {questions_file}" for item in found.keys() - asked]
    if findings:
        headline = f"{answers_file}: does not fit the questions"
        raise DataError(list_findings(headline, sorted(findings), _REMEDY))
    chosen = [found[item.question_id] for item in questions]
    return {
        "task": "aokvqa",
        "n": len(questions),
        "questions": describe_file(questions_file),
        "predictions": describe_file(answers_file),
        **score_choices(questions, chosen),
        "questions_without_answer": [item for item in found if found[item] == NO_ANSWER],
    }


def aokvqa_table(scores: Mapping[str, Any]) -> str:
    """Render the share of right choices with its interval."""
    rows = [
        [name, str(column["n"]), f"{column['percent']:.2f}", interval_cell(column, decimals=2)]
        for name, column in scores["columns"].items()
    ]
    return "\n".join(aligned([["column", "n", "accuracy %", "95 % (Wilson)"], *rows]))
