"""Protects ScienceQA's answers and its nine columns."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ademvl.data.choices import NO_ANSWER, choice_lettered, choice_named, first_capital
from ademvl.errors import DataError, SettingsError
from ademvl.evaluation.choosing import answer_batch, letter_ids
from ademvl.golden.scoring import check_scoring
from ademvl.tasks.scienceqa.reader import Problem, load_scienceqa
from ademvl.tasks.scienceqa.scores import COLUMNS, score_scienceqa

PROBLEM = Problem(
    question_id="1",
    question="Which?",
    choices=("yes", "no", "both"),
    answer_index=1,
    hint="",
    image=None,
    caption="",
    task="closed choice",
    grade="grade2",
    subject="natural science",
    topic="",
    category="",
    skill="",
    lecture="",
    solution="",
    split="test",
)
PUBLISHED_DIGITS = 4


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" (c) C.", "C"),
        ("The answer", "T"),
        ("Answer: B", "A"),
        ("É", None),
        ("b", None),
        ("", None),
        ("\u2581D", "D"),
    ],
)
def test_first_capital_is_found_anywhere(text, letter):
    assert first_capital(text) == letter


@pytest.mark.parametrize(
    ("text", "index"), [("A", 0), ("C", 2), ("D", NO_ANSWER), ("?", NO_ANSWER), ("Then B", -1)]
)
def test_choice_is_named_only_among_the_questions_own(text, index):
    assert choice_named(text, num_choices=3) == index


def test_one_forward_pass_answers_a_batch():
    class Model:
        num_calls = 0

        def next_token_logits(self, batch, visual):
            self.num_calls += 1
            return torch.eye(4)[[1, 2, 3]]

    model = Model()
    tokenizer = SimpleNamespace(decode=lambda ids: ["?", "B", "D", "the C"][ids[0]])
    batch = SimpleNamespace(item_ids=("1", "2", "3"))
    rows = answer_batch(model, tokenizer, batch, None, dict.fromkeys("123", 3))
    assert model.num_calls == 1
    assert rows == [
        {"id": "1", "text": "B", "predicted_index": 1},
        {"id": "2", "text": "D", "predicted_index": NO_ANSWER},
        {"id": "3", "text": "the C", "predicted_index": 2},
    ]


class Letters:
    """Tokenizes letter by letter behind the cue; Z takes two tokens."""

    def encode(self, text):
        letter = text.removeprefix("The answer is")
        return [9, *([5, 6] if letter == " Z" else [ord(letter[1]) - ord("A")] if letter else [])]

    def decode(self, ids):
        return "ABCDEFGHIJ"[ids[0]]


def test_likelihood_compares_the_questions_own_letters_alone():
    logits = torch.tensor([[0.1, 0.3, 0.2, 9.0, 0.0, 0.0], [0.5, 0.1, 0.5, 0.2, 0.0, 0.0]])
    model = SimpleNamespace(next_token_logits=lambda batch, visual: logits)
    batch = SimpleNamespace(item_ids=("1", "2"))
    rows = answer_batch(model, Letters(), batch, None, {"1": 3, "2": 4}, answer_by="likelihood")
    assert rows == [
        {"id": "1", "text": "D", "predicted_index": 1},
        {"id": "2", "text": "A", "predicted_index": 0},
    ]


def test_letter_that_the_tokenizer_splits_is_refused():
    with pytest.raises(SettingsError, match="splits 'Z'; use greedy"):
        letter_ids(Letters(), 26)


def test_golden_scoring(golden_dir):
    checks = check_scoring(golden_dir)
    assert len(checks) == 4
    assert [check.what for check in checks if not check.passed] == []


def test_published_predictions_give_the_published_columns(real_dir):
    folder = real_dir / "scienceqa_subset"
    problems = load_scienceqa(folder).split("test")
    published = json.loads((folder / "gpt3_predictions.json").read_text(encoding="utf-8"))
    expected = json.loads((folder / "gpt3_subset_scores.json").read_text(encoding="utf-8"))
    scores = score_scienceqa(problems, published["results"])
    found = {
        column: {"n": score.n, "acc": round(100 * score.accuracy.value, PUBLISHED_DIGITS)}
        for column, score in scores.items()
    }
    assert found == expected
    assert scores["AVG"].correct == published["correct"]
    assert 100 * scores["AVG"].accuracy.value == pytest.approx(published["acc"], abs=1e-12)


def test_question_can_have_both_contexts_or_neither():
    both = replace(PROBLEM, hint="Look.", image="image.png")
    members = {column for column, belongs in COLUMNS.items() if belongs(both)}
    assert members == {"NAT", "TXT", "IMG", "G1-6", "AVG"}
    assert COLUMNS["NO"](PROBLEM)


def test_column_without_questions_is_null():
    scores = score_scienceqa([PROBLEM], {"1": 1})
    assert scores["SOC"].accuracy is None
    assert scores["SOC"].to_json() is None
    assert scores["AVG"].to_json()["percent"] == 100.0
    assert scores["AVG"].to_json()["correct"] == 1


def test_no_answer_is_wrong():
    assert score_scienceqa([PROBLEM], {"1": NO_ANSWER})["AVG"].correct == 0


@pytest.mark.parametrize(
    ("predicted", "finding"),
    [
        ({}, "question 1: no prediction"),
        ({"1": 3}, "question 1: predicted choice 3"),
        ({"1": -2}, "question 1: predicted choice -2"),
        ({"1": 0, "9": 0}, "question 9: a prediction, but it was not asked"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(predicted, finding):
    with pytest.raises(DataError, match=finding):
        score_scienceqa([PROBLEM], predicted)


@pytest.mark.parametrize(
    ("text", "index"),
    [("B", 1), (" C ", 2), ("\u2581B", NO_ANSWER), ("The", -1), ("AB", -1), ("D", -1), ("", -1)],
)
def test_letter_accepts_nothing_but_a_letter(text, index):
    assert choice_lettered(text, num_choices=3) == index


def test_answer_by_letter_refuses_what_greedy_reads_into_a_word():
    class Model:
        def next_token_logits(self, batch, visual):
            return torch.eye(2)

    tokenizer = SimpleNamespace(decode=lambda ids: ["Because", "B"][ids[0]])
    batch = SimpleNamespace(item_ids=("1", "2"))
    found = {
        answer_by: [
            row["predicted_index"]
            for row in answer_batch(
                Model(), tokenizer, batch, None, {"1": 2, "2": 2}, answer_by=answer_by
            )
        ]
        for answer_by in ("greedy", "letter")
    }
    assert found == {"greedy": [1, 1], "letter": [NO_ANSWER, 1]}
