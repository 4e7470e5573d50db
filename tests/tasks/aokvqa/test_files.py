"""Protects scores of A-OKVQA predictions that other programs wrote."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ademvl.cli import main
from ademvl.errors import DataError
from ademvl.tasks.aokvqa.files import score_answer_file
from tests import tiny

RIGHT = "correct_choice_idx"


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny.make_aokvqa(tmp_path_factory.mktemp("aokvqa"), num_train=1)
    return root / "aokvqa_v1p0_val.json"


def right_answers(questions: Path) -> dict[str, Any]:
    rows = json.loads(questions.read_text(encoding="utf-8"))
    return {row["question_id"]: row["choices"][row[RIGHT]] for row in rows}


def written(folder: Path, answers: object) -> Path:
    path = folder / "answers.json"
    path.write_text(json.dumps(answers), encoding="utf-8")
    return path


def test_choices_count_to_the_letter_in_both_forms(questions: Path, tmp_path: Path) -> None:
    answers = right_answers(questions)
    answers["val-1"] = {"multiple_choice": answers["val-1"], "direct_answer": "no"}
    answers["val-3"] = answers["val-3"].upper()
    scores = score_answer_file(questions, written(tmp_path, answers))
    assert (scores["columns"]["MC"]["correct"], scores["n"]) == (3, 4)
    assert scores["questions_without_answer"] == ["val-3"]


def test_verb_prints_a_table_and_tells_unread_answers(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, right_answers(questions) | {"val-0": "none of them"})
    files = ["--questions", str(questions), "--predictions", str(path)]
    output = tmp_path / "scores.json"
    assert main(["score", "aokvqa", *files, "--output", str(output)]) == 3
    assert main(["score", "aokvqa", *files, "--allow-unread"]) == 0
    assert "75.00" in capsys.readouterr().out
    assert json.loads(output.read_text())["columns"]["MC"]["percent"] == 75


def test_right_text_is_right_where_two_choices_read_the_same(
    questions: Path, tmp_path: Path
) -> None:
    rows = json.loads(questions.read_text(encoding="utf-8"))
    rows[0] |= {"choices": ["red", "blue", "red", "green"], RIGHT: 2}
    (tmp_path / "questions.json").write_text(json.dumps(rows), encoding="utf-8")
    answers = right_answers(tmp_path / "questions.json")
    scores = score_answer_file(tmp_path / "questions.json", written(tmp_path, answers))
    assert scores["columns"]["MC"]["correct"] == scores["n"] == 4


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"direct_answer": "red"}, "val-1: multiple_choice is None, expected text"),
        ({"multiple_choice": 2}, "val-1: multiple_choice is 2, expected text"),
        (2, "val-1: 2, expected text"),
        (None, "val-1: None, expected text"),
    ],
)
def test_predictions_that_are_no_text_are_listed_as_they_stand(
    answer: object, expected: str, questions: Path, tmp_path: Path
) -> None:
    answers = right_answers(questions) | {"val-1": answer}
    with pytest.raises(DataError, match=expected):
        score_answer_file(questions, written(tmp_path, answers))


def test_questions_must_be_those_of_the_file(questions: Path, tmp_path: Path) -> None:
    answers = right_answers(questions)
    del answers["val-2"]
    with pytest.raises(DataError, match=r"(?s)val-2: no prediction.*val-9: not in"):
        score_answer_file(questions, written(tmp_path, answers | {"val-9": "red"}))


def test_right_choices_of_test_are_not_public(questions: Path, tmp_path: Path) -> None:
    path = questions.with_name("aokvqa_v1p0_test.json")
    with pytest.raises(DataError, match="right choices of test are not public"):
        score_answer_file(path, written(tmp_path, {}))


def test_pipe_is_read_once(questions: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, json.dumps(right_answers(questions)).encode())
    os.close(writer)
    try:
        scores = score_answer_file(questions, Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)
    assert scores["columns"]["MC"]["correct"] == 4
    assert scores["predictions"] == {"path": f"/dev/fd/{reader}"}
