"""Protects the scoring of others' ScienceQA files: published shapes in, published columns out."""

import json
import logging

import pytest

from ademvl.cli import main
from ademvl.data.choices import NO_ANSWER
from ademvl.data.scienceqa import load_problems
from ademvl.errors import AdemvlError, DataError, SettingsError
from ademvl.evaluation.scienceqa_files import (
    choice_in_text,
    read_predictions,
    score_prediction_file,
)
from tests.tiny import make_scienceqa

ANSWERS = {"15": 1, "16": 1, "17": 0, "18": 0}  # of the tiny test split
GUESSES = {"15": 1, "16": 0, "17": 0, "18": 0}
LETTERS = {key: "AB"[index] for key, index in GUESSES.items()}


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    return make_scienceqa(tmp_path_factory.mktemp("data")) / "problems.json"


@pytest.fixture
def score(problems, tmp_path):
    def run(content, *, name="predictions.json", **settings):
        path = tmp_path / name
        path.write_text(
            content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
        )
        return score_prediction_file(problems, path, **{"split": "test"} | settings)

    return run


def _lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_published_predictions_give_the_published_columns(real_dir, tmp_path, capsys):
    folder = real_dir / "scienceqa_subset"
    output = tmp_path / "scores.json"
    arguments = ["--problems", folder / "problems.json"]
    arguments += ["--predictions", folder / "gpt3_predictions.json", "--output", output]
    assert main(["score", "scienceqa", *map(str, arguments)]) == 0
    expected = json.loads((folder / "gpt3_subset_scores.json").read_text(encoding="utf-8"))
    columns = json.loads(output.read_text(encoding="utf-8"))["columns"]
    assert {
        name: {"n": column["n"], "acc": round(column["percent"], 4)}
        for name, column in columns.items()
    } == expected
    assert "AVG     361       74.52    69.78-78.74" in capsys.readouterr().out


def test_texts_of_the_published_outputs_name_the_published_results(real_dir, tmp_path):
    """Where GPT-3 said nothing, the published index is a random guess; here that is wrong."""
    folder = real_dir / "scienceqa_subset"
    problems = load_problems(folder / "problems.json").split("test")
    published = json.loads((folder / "gpt3_predictions.json").read_text(encoding="utf-8"))
    path = tmp_path / "outputs.json"
    path.write_text(json.dumps({"outputs": published["outputs"]}), encoding="utf-8")
    predictions = read_predictions(path, problems)
    silent = {key for key, text in published["outputs"].items() if not text}
    assert set(predictions.without_answer) == silent
    assert all(
        index == published["results"][key]
        for key, index in predictions.predicted_index.items()
        if key not in silent
    )


def test_tiny_answers_are_those_of_the_problems(problems):
    content = json.loads(problems.read_text(encoding="utf-8"))
    found = {key: raw["answer"] for key, raw in content.items() if raw["split"] == "test"}
    assert found == ANSWERS


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (GUESSES, "mapping.json"),
        ({key: str(index) for key, index in GUESSES.items()}, "texts_of_indices.json"),
        (LETTERS, "letters.json"),
        ({"acc": 75.0, "correct": 3, "count": 4, "results": GUESSES, "outputs": {}}, "gpt3.json"),
        ({"results": LETTERS}, "results_letters.json"),
        ({"outputs": {k: f"The answer is {v}. BECAUSE." for k, v in LETTERS.items()}}, "o.json"),
        ({"results": [{"qid": int(k), "pred": v} for k, v in LETTERS.items()]}, "rows.json"),
        ({key: {"prediction": value} for key, value in LETTERS.items()}, "nested.json"),
        (
            {
                "correct": [
                    {"question_id": key, "parsed_ans": LETTERS[key], "pred": "x"}
                    for key in ("15", "17", "18")
                ],
                "incorrect": [{"question_id": "16", "parsed_ans": "A", "pred": "x"}],
            },
            "llava_output.jsonl",
        ),
        (
            {
                "num_fail": 0,
                "preds": [f"The answer is ({v})." for v in LETTERS.values()],
                "labels": [f"The answer is ({'AB'[v]})." for v in ANSWERS.values()],
            },
            "mm_cot.json",
        ),
        (_lines({"question_id": k, "text": v, "prompt": "A or B"} for k, v in LETTERS.items()),
         "llava.jsonl"),
        (_lines({"question_id": k, "text": f"{v}. red"} for k, v in LETTERS.items()), "llava.json"),
        (_lines({"id": k, "text": "?", "predicted_index": v} for k, v in GUESSES.items()),
         "ours.jsonl"),
    ],
)  # fmt: skip
def test_published_shapes_are_read(score, content, name):
    scores = score(content, name=name)
    assert scores["num_without_answer"] == 0
    assert scores["columns"]["AVG"]["correct"] == 3


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1),
        ("(B)", 1),
        ("B. blue", 1),
        ("(B) blue", 1),
        ("The answer is B.", 1),
        ("the answer is (B)", 1),
        ("Red, so the answer is A. Yes, the answer is A.", 0),
        ("Blue.", 1),
        ("The answer is A. Or: the answer is B.", NO_ANSWER),
        ("The answer is Blue", NO_ANSWER),
        ("C", NO_ANSWER),
        ("Both", NO_ANSWER),
        ("", NO_ANSWER),
        ("FAILED", NO_ANSWER),
    ],
)
def test_choice_is_read_off_text(text, index):
    assert choice_in_text(text, ["red", "blue"]) == index


def test_text_that_names_no_choice_is_wrong_counted_and_said(score, caplog):
    with caplog.at_level(logging.WARNING):
        scores = score({**LETTERS, "15": "FAILED"})
    assert scores["columns"]["AVG"]["correct"] == 2
    assert scores["questions_without_answer"] == ["15"]
    assert "name no choice and count as wrong: questions 15" in caplog.text


def test_stated_accuracy_that_differs_is_warned_of(score, caplog):
    with caplog.at_level(logging.WARNING):
        score({"acc": 99.0, "results": GUESSES})
    assert "states an accuracy of 99.00 %, but its predictions give 75.00 %" in caplog.text


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ({"15": 1, "16": 0, "17": 0}, "question 18: no prediction"),
        ({**GUESSES, "1": 0}, "question 1: a prediction, but it was not asked"),
        ({**GUESSES, "15": 2}, "question 15: predicted choice 2, but it has choices 0 to 1"),
        ({**GUESSES, "15": -2}, "question 15: predicted choice -2"),
        ({**GUESSES, "15": None}, "question 15: prediction is None"),
        ({**GUESSES, "15": True}, "question 15: prediction is True"),
        ({**GUESSES, "15": 1.5}, "question 15: prediction is 1.5"),
        ('{"15": 1, "15": 0, "16": 0, "17": 0, "18": 0}', "key '15' occurs twice"),
        ('{"15": 1,', "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"15": ' + "1" * 5000 + "}", "not readable as JSON"),
        ("", "not valid JSON"),
        ([0, 1, 0, 0], "row 1: no question id"),
        ([{"question_id": "15"}], "row 1: no prediction"),
        ([{"id": k, "pred": v} for k, v in [*GUESSES.items(), ("15", 1)]],
         "question 15: predicted more than once"),
        ({"acc": 86.5, "count": 4}, "holds no prediction of any question of the split"),
        (3, "expected predictions"),
        ({"preds": ["A"], "labels": ["A"]}, "1 'preds' and 1 'labels' for 4 questions"),
        ({"preds": ["A"] * 4, "labels": ["A"] * 4}, "question 15: the label at its place is 'A'"),
        ('{"id": "15", "pred": 1}\n{"id": "16", "pre', "line 2: not valid JSON"),
    ],
)  # fmt: skip
def test_predictions_that_do_not_fit_are_refused(score, content, finding):
    with pytest.raises(DataError, match=finding.replace("(", r"\(")):
        score(content)


def test_unknown_split_and_missing_file_are_refused(score, problems, tmp_path):
    with pytest.raises(SettingsError, match="'dev' is none of"):
        score(GUESSES, split="dev")
    with pytest.raises(AdemvlError, match="cannot be read"):
        score_prediction_file(problems, tmp_path / "missing.json", split="test")


def test_refused_file_writes_nothing_and_exits_with_2(problems, tmp_path, capsys):
    path, output = tmp_path / "predictions.json", tmp_path / "scores.json"
    path.write_text(json.dumps({"15": 1}), encoding="utf-8")
    arguments = ["--problems", problems, "--predictions", path, "--output", output]
    assert main(["score", "scienceqa", *map(str, arguments)]) == 2
    assert "question 16: no prediction" in capsys.readouterr().err
    assert not output.exists()


def test_splits_are_read_off_the_problems_where_there_is_no_list(problems, tmp_path):
    alone = tmp_path / "others.json"
    alone.write_bytes(problems.read_bytes())
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(GUESSES), encoding="utf-8")
    assert score_prediction_file(alone, path, split="test")["n"] == 4
