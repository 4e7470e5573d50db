"""Protects how MME is compared and shown: images as items, yes and no as choices."""

from pathlib import Path

import numpy as np
import pytest

from ademvl.tasks.mme.questions import MmeCorpus, MmeQuestions
from ademvl.tasks.mme.reader import TASKS, MmeAnswer, load_benchmark
from ademvl.tasks.mme.scores import score_answers
from ademvl.tasks.registry import task_named
from tests import tiny


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    return tiny.make_mme(tmp_path / "mme")


def test_totals_are_the_benchmarks_own_scores() -> None:
    generator = np.random.default_rng(0)
    answers, predicted, by_task = {}, {}, {}
    for task, number in TASKS.items():
        rows = []
        for place in range(number):
            gold = "yes" if place % 2 == 0 else "no"
            said = "Yes." if generator.random() < 0.7 else "No."
            item = f"{task}/{place // 2}.png/{len(answers)}"
            answers[item], predicted[item] = gold, said
            rows.append(MmeAnswer(f"{place // 2}.png", str(place % 2), gold, said))
        by_task[task] = rows
    expected = score_answers(by_task)["sums"]
    corpus = MmeCorpus()
    (values,) = corpus.item_sums(answers, [predicted])
    assert len(values) == sum(TASKS.values()) // 2
    found = corpus.estimates(values, seed=0)
    assert 100 * found["MME-P"].value == pytest.approx(expected["perception"]["score"])
    assert 100 * found["MME-C"].value == pytest.approx(expected["cognition"]["score"])
    right = [said.startswith("Y") == (answers[item] == "yes") for item, said in predicted.items()]
    assert found["accuracy"].value == pytest.approx(np.mean(right))
    assert found["MME-P"].ci_low < found["MME-P"].value < found["MME-P"].ci_high


def test_tasks_that_are_left_out_count_nothing(benchmark: Path) -> None:
    found = task_named("instruction").right_answers(benchmark, "test")
    (values,) = MmeCorpus().item_sums(found.by_id, [dict.fromkeys(found.by_id, "yes")])
    scores = MmeCorpus().totals(values.sum(axis=0, keepdims=True), n=len(values))[0]
    assert scores.tolist() == [1.0, 0.0, 0.5, 0.0]  # two tasks at half of the points for accuracy


def test_questions_are_shown_with_two_choices(benchmark: Path) -> None:
    questions = MmeQuestions(load_benchmark(benchmark))
    first, second, *_ = questions.shown()
    assert (first.item_id, first.choices, first.about) == (
        "color/blue.png/0",
        ("Yes", "No"),
        "color",
    )
    assert (first.answer_index, second.answer_index) == (0, 1)
    said = ["Yes, it is", "no", "maybe"]
    assert [questions.chosen({"text": text}) for text in said] == [0, 1, -1]
