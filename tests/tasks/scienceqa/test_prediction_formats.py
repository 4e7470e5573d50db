"""Protects the reading of files that name questions by place: of lmms-eval and VLMEvalKit."""

import csv
import io
import json
import sys
from string import ascii_uppercase

import pytest
from openpyxl import Workbook

from ademvl.cli import main
from ademvl.errors import DataError
from ademvl.tasks.scienceqa.files import read_predictions, score_prediction_file
from ademvl.tasks.scienceqa.reader import load_problems


@pytest.fixture(scope="module")
def real(real_dir):
    """The published predictions of GPT-3, the questions they answer, and their columns."""
    folder = real_dir / "scienceqa_subset"
    if not folder.is_dir():
        pytest.skip(f"real data not found: {folder}")
    results = json.loads((folder / "gpt3_predictions.json").read_text(encoding="utf-8"))["results"]
    columns = json.loads((folder / "gpt3_subset_scores.json").read_text(encoding="utf-8"))
    return folder / "problems.json", results, columns


def _letter(index):
    return ascii_uppercase[index]


def _sample(place, problem, answer, **more):
    target = _letter(problem.answer_index)
    row = {"doc_id": place, "target": target, "doc": {"question": problem.question}}
    return row | {"resps": [[answer]], "filtered_resps": [answer], "doc_hash": "0"} | more


def _kit_row(index, problem, answer):
    row = {"index": index, "hint": problem.hint, "question": problem.question}
    choices = [*problem.choices, *[""] * (5 - len(problem.choices))]
    row |= dict(zip("ABCDE", choices, strict=True))
    return row | {"answer": _letter(problem.answer_index), "prediction": answer}


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_table(path, rows):
    if path.suffix == ".xlsx":
        workbook = Workbook()
        for row in (list(rows[0]), *(list(row.values()) for row in rows)):
            workbook.active.append(row)
        workbook.save(path)
        return
    text = io.StringIO()
    delimiter = {".tsv": "\t", ".csv": ","}[path.suffix]
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    path.write_text("\ufeff" + text.getvalue() + "\n\n", encoding="utf-8", newline="")


def _columns(scores):
    return {
        name: {"n": column["n"], "acc": round(column["percent"], 4)}
        for name, column in scores["columns"].items()
        if column
    }


def test_samples_of_lmms_eval_score_as_the_published_file(real, tmp_path):
    problems_file, results, columns = real
    problems = load_problems(problems_file, "test")
    rows = [
        _sample(place, problem, _letter(results[problem.question_id]))
        for place, problem in enumerate(problems)
    ]
    _write_lines(tmp_path / "samples.jsonl", rows[::-1])
    scores = score_prediction_file(problems_file, tmp_path / "samples.jsonl", split="test")
    assert _columns(scores) == columns
    assert scores["predictions"]["shape"] == "samples of lmms-eval"


def test_samples_of_questions_with_an_image_are_scored_on_these(real, tmp_path, caplog):
    problems_file, results, columns = real
    problems = [p for p in load_problems(problems_file, "test") if p.has_image]
    rows = [
        _sample(place, problem, _letter(results[problem.question_id]))
        for place, problem in enumerate(problems)
    ]
    (tmp_path / "log.json").write_text(json.dumps({"logs": rows}), encoding="utf-8")
    scores = score_prediction_file(problems_file, tmp_path / "log.json", split="test")
    assert _columns(scores)["IMG"] == _columns(scores)["AVG"] == columns["IMG"]
    assert scores["questions"] == "with an image"
    assert "answers the 167 questions with an image alone" in caplog.text


@pytest.mark.parametrize("suffix", [".xlsx", ".tsv", ".csv"])
@pytest.mark.parametrize("by_id", [True, False])
def test_tables_of_vlmevalkit_score_as_the_published_file(real, tmp_path, suffix, by_id):
    problems_file, results, columns = real
    problems = load_problems(problems_file, "test")
    rows = [
        _kit_row(
            int(p.question_id) if by_id else 10_000 + place, p, _letter(results[p.question_id])
        )
        for place, p in enumerate(problems)
    ]
    path = tmp_path / f"predictions{suffix}"
    _write_table(path, rows)
    scores = score_prediction_file(problems_file, path, split="test")
    assert _columns(scores) == columns
    assert scores["predictions"]["shape"] == "rows of VLMEvalKit"


@pytest.fixture
def questions(tmp_path):
    """Three questions of one text, and a file of them."""
    raw = {
        key: {
            **dict.fromkeys(("hint", "topic", "category", "skill", "lecture", "solution"), ""),
            **{"question": "Which colour?", "choices": choices, "answer": answer},
            **{"image": image, "task": "closed choice", "grade": "grade3"},
            **{"subject": "natural science", "split": "test"},
        }
        for key, choices, answer, image in (
            ("21", ["red", "green"], 1, "image.png"),
            ("22", ["blue", "red"], 0, None),
            ("23", ["red", "blue"], 1, "image.png"),
        )
    }
    (tmp_path / "problems.json").write_text(json.dumps(raw), encoding="utf-8")
    return load_problems(tmp_path / "problems.json", "test")


def _three(questions, **changed):
    rows = [_sample(place, problem, "A") for place, problem in enumerate(questions)]
    rows[1] |= changed
    return rows


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"target": "B"}, "question 22: the label at its place is 'B', but its answer is choice 0"),
        ({"target": ["B"]}, "but its answer is choice 0"),
        ({"target": 1}, "the label at its place is 1"),
        (
            {"target": None, "doc": None, "input": "Why?"},
            "the text at its place is 'Why\\?', but it",
        ),
        ({"target": None, "doc": {}}, "question 22: nothing at its place confirms it"),
        ({"doc_id": 3}, "place 3: beyond the 3 questions"),
        ({"doc_id": "1"}, "row 2: doc_id is '1', expected a number from 0"),
        ({"doc_id": -1}, "row 2: doc_id is -1"),
        ({"doc_id": True}, "row 2: doc_id is True"),
        ({"doc_id": 0, "target": "B"}, "question 21: predicted more than once"),
        (
            {"filtered_resps": ["A", "B"]},
            r"row 2: filtered_resps is \['A', 'B'\], expected one text",
        ),
        ({"filtered_resps": [[-3.0, False]]}, "row 2: filtered_resps is"),
        ({"filtered_resps": None}, "row 2: filtered_resps is None"),
    ],
)
def test_samples_that_do_not_fit_are_refused(tmp_path, questions, changed, finding):
    _write_lines(tmp_path / "samples.jsonl", _three(questions, **changed))
    with pytest.raises(DataError, match=finding) as caught:
        read_predictions(tmp_path / "samples.jsonl", questions)
    assert str(tmp_path / "samples.jsonl") in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"filtered_resps": "B"},
        {"filtered_resps": [["B"]]},
        {"target": 0},
        {"target": "0"},
        {"target": "blue", "doc": None},
        {"target": None},
        {"doc": None, "input": "Question: Which  colour?\n(A) blue (B) red"},
    ],
)
def test_samples_in_all_their_forms_are_read(tmp_path, questions, changed):
    _write_lines(tmp_path / "samples.jsonl", _three(questions, **changed))
    found = read_predictions(tmp_path / "samples.jsonl", questions).predicted_index
    assert found == {"21": 0, "22": 1 if "filtered_resps" in changed else 0, "23": 0}


def test_one_sample_is_a_file_too(tmp_path, questions):
    _write_lines(tmp_path / "samples.jsonl", _three(questions)[:1])
    assert read_predictions(tmp_path / "samples.jsonl", questions[:1]).predicted_index == {"21": 0}


@pytest.mark.parametrize(
    ("changed", "finding"),
    [
        ({"index": "x"}, "row 2: index is 'x', expected a number"),
        ({"index": 0}, "row 2: index 0 occurs twice"),
        ({"answer": "B"}, "question 22: the label at its place is 'B'"),
        ({"question": "Which shape?"}, "question 22: the text at its place is 'Which shape\\?'"),
        ({"A": "green"}, "question 22: choice A at its place is another"),
        ({"answer": "", "question": ""}, None),
        ({"prediction": ""}, None),
    ],
)
@pytest.mark.parametrize("suffix", [".xlsx", ".tsv", ".csv"])
def test_rows_of_tables_are_confirmed_by_what_they_hold(
    tmp_path, questions, suffix, changed, finding
):
    rows = [_kit_row(place, problem, "A") for place, problem in enumerate(questions)]
    rows[1] |= changed
    path = tmp_path / f"predictions{suffix}"
    _write_table(path, rows)
    if finding is None:
        found = read_predictions(path, questions).predicted_index
        assert found == {"21": 0, "22": -1 if "prediction" in changed else 0, "23": 0}
        return
    with pytest.raises(DataError, match=finding) as caught:
        read_predictions(path, questions)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "finding"),
    [
        ("a.tsv", b"", "an empty table"),
        ("a.tsv", b"index\tprediction\n1\tA\tB\n2\n", "row 2: 3 cells, but 2 columns"),
        ("a.csv", b"id,id\n1,A\n", "row 1: column 'id' occurs twice"),
        ("a.csv", b'id,text\n1,"A\n', "not a table of csv"),
        ("a.csv", b"id,text\n1,A\0\n", "question 21: no prediction"),
        ("a.csv", b"\xff\xfeA", "not UTF-16 text"),
        ("a.csv", b"id,answer\n1,A\n", "row 1: no prediction"),
        ("a.csv", b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page"),
        ("a.tsv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("a.xlsx", b"", "not a zip archive"),
        ("a.xlsx", b"index\tprediction\n", "not a zip archive"),
        ("a.xlsx", b"PK\x05\x06" + bytes(18), "cannot be read as .xlsx"),
    ],
)
def test_tables_that_are_none_are_refused_with_a_message(
    tmp_path, questions, capsys, name, content, finding
):
    (tmp_path / name).write_bytes(content)
    arguments = ["--problems", tmp_path / "problems.json", "--predictions", tmp_path / name]
    assert main(["score", "scienceqa", *map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert finding in message
    assert str(tmp_path / name) in message


def test_missing_openpyxl_is_named_with_its_extra(tmp_path, questions, capsys, monkeypatch):
    path = tmp_path / "a.xlsx"
    _write_table(path, [_kit_row(0, questions[0], "A")])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    arguments = ["--problems", tmp_path / "problems.json", "--predictions", path]
    assert main(["score", "scienceqa", *map(str, arguments)]) == 2
    assert "pip install 'ademvl[xlsx]'" in capsys.readouterr().err
