"""Protects the scoring of others' ScienceQA files: published shapes in, published columns out."""

import json
import logging

import pytest

from ademvl.cli import main
from ademvl.errors import AdemvlError, DataError, SettingsError
from ademvl.tasks.scienceqa.files import read_predictions, score_prediction_file
from ademvl.tasks.scienceqa.reader import load_problems
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
    problems = load_problems(folder / "problems.json", "test")
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


# Questions whose choices are letters, numbers or names that begin like letters.
CASES = {
    "1": ("Which colour is grass?", ["red", "green", "blue"], 1),
    "2": ("How many legs has a cat?", ["2", "4", "6"], 1),
    "3": ("Is a stone alive?", ["yes", "no"], 1),
    "4": ("Which is the largest?", ["mouse", "dog", "horse", "cow"], 2),
}
GERMS = ["E. coli", "B. subtilis", "A. baumannii"]


@pytest.fixture
def score_case(tmp_path):
    """Score predictions for the questions of a case by the command; return exit code and scores."""

    def run(content, *options, cases=CASES, name="predictions.json", encoding="utf-8"):
        raw = {
            key: {
                **dict.fromkeys(("hint", "topic", "category", "skill", "lecture", "solution"), ""),
                **{"question": question, "choices": choices, "answer": answer, "image": None},
                **{"task": "closed choice", "grade": "grade3", "subject": "natural science"},
                "split": "test",
            }
            for key, (question, choices, answer) in cases.items()
        }
        (tmp_path / "problems.json").write_text(json.dumps(raw), encoding=encoding)
        path, output = tmp_path / name, tmp_path / "scores.json"
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding=encoding)
        arguments = ["--problems", tmp_path / "problems.json", "--predictions", path]
        arguments += ["--output", output, *options]
        code = main(["score", "scienceqa", *map(str, arguments)])
        return code, json.loads(output.read_text(encoding="utf-8")) if output.exists() else None

    return run


def _percent(scores):
    return scores["columns"]["AVG"]["percent"]


def test_each_text_names_one_choice_without_doubt(score_case):
    texts = ["Final answer: B", "The correct answer is B.", "**B**"]
    texts += ["C\nExplanation: a horse is larger than a dog."]
    rows = [{"question_id": key, "text": text} for key, text in zip(CASES, texts, strict=True)]
    code, scores = score_case(_lines(rows))
    assert (code, _percent(scores)) == (0, 100)
    assert scores["read_by"] == {"exact_letter": 1, "statement": 3}


def test_what_stands_in_reasoning_tags_is_no_answer(score_case):
    texts = ["<think>At first sight the answer is A. But grass is green.</think>\nB"]
    texts += ["<think>Cats walk on four.</think>\n\nB", "<think>It does not grow.</think> no"]
    rows = [{"question_id": key, "text": text} for key, text in zip("123", texts, strict=True)]
    code, scores = score_case(_lines(rows), cases={key: CASES[key] for key in "123"})
    assert (code, _percent(scores)) == (0, 100)


def test_choice_that_begins_like_a_letter_is_read_by_its_words(score_case):
    cases = {"1": ("Which?", GERMS, 0), "2": ("Which, then?", GERMS, 2)}
    code, scores = score_case({"1": "E. coli", "2": "A. baumannii"}, cases=cases)
    assert (code, _percent(scores)) == (0, 100)
    assert scores["read_by"] == {"own_words": 2}


@pytest.mark.parametrize("nothing", ["", " ", "FAILED", "N/A", "<think>4"])
def test_one_question_without_answer_leaves_the_others_indices(score_case, caplog, nothing):
    code, scores = score_case({"1": "1", "2": "1", "3": "1", "4": nothing})
    assert (code, _percent(scores)) == (3, 75)
    assert scores["questions_without_answer"] == ["4"]
    assert "1 of 4 predictions name no choice and count as wrong: questions 4" in caplog.text
    assert score_case({"1": "1", "2": "1", "3": "1", "4": nothing}, "--allow-unread")[0] == 0


def test_numbers_beside_letters_are_the_choices_own_words(score_case):
    _, scores = score_case({"1": "B", "2": "4", "3": "no", "4": "horse"})
    assert _percent(scores) == 100


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_byte_order_marks_are_read_as_without(score_case, encoding):
    letters = {"1": "B", "2": "B", "3": "B", "4": "C"}
    code, scores = score_case(letters, encoding=encoding)
    assert (code, _percent(scores)) == (0, 100)
    code, scores = score_case("id,text\n1,B\n2,B\n3,B\n4,C\n\n", encoding=encoding, name="a.csv")
    assert (code, _percent(scores)) == (0, 100)


@pytest.mark.parametrize(("unread", "code"), [(1, 0), (2, 3)])
def test_more_than_one_in_twenty_without_choice_ends_with_3(
    score_case, capsys, caplog, unread, code
):
    cases = {str(number): CASES["1"] for number in range(20)}
    texts = {key: "I cannot tell." if int(key) < unread else "B" for key in cases}
    found, scores = score_case(texts, cases=cases)
    assert found == code
    assert scores["num_without_answer"] == unread
    assert scores["read_by"] == {"exact_letter": 20 - unread, "unread": unread}
    message = "2 of 20 answers (10.0 %) name no choice, more than 5 %"
    assert (message in caplog.text) == (code == 3)


def test_text_that_ends_in_half_a_character_is_read(score_case):
    texts = {"1": "Final answer: B \ud83d", "2": "\ud800", "3": "B", "4": "C"}
    _, scores = score_case(texts)
    assert _percent(scores) == 75
    assert scores["read_by"]["statement"] == 1


def test_paper_s_rule_can_be_chosen(score_case):
    letters = {"1": "The answer is B", "2": "B", "3": "is B", "4": " C"}
    code, scores = score_case(letters, "--text-rule", "first-capital", "--allow-unread")
    assert (code, _percent(scores)) == (0, 75)  # "The" gives T, which is no choice
    assert scores["read_by"] == {"first_capital": 3, "unread": 1}


def test_only_the_split_that_is_scored_has_to_be_listed(score_case, tmp_path):
    letters = {"1": "B", "2": "B", "3": "B"}
    (tmp_path / "pid_splits.json").write_text(json.dumps({"test": ["1", "2", "3"]}))
    code, scores = score_case(letters)
    assert (code, scores["n"], _percent(scores)) == (0, 3, 100)
    (tmp_path / "pid_splits.json").write_text(json.dumps({"test": list("123"), "train": ["9"]}))
    assert score_case(letters)[0] == 0
    (tmp_path / "pid_splits.json").write_text(json.dumps({"test": ["1", "9"]}))
    assert score_case(letters)[0] == 2
