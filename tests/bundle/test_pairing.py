"""Protects paired tests of each task between two sides, on the items that both were asked."""

from collections.abc import Mapping
from typing import Any

import pytest

from ademvl.bundle.pairing import compare_items, count_identical
from ademvl.bundle.records import SeedRecord


def record(task: str, rows: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Any]):
    return SeedRecord(
        run="run",
        seed=0,
        task=task,
        settings={},
        provenance={},
        scores={},
        predictions=rows,
        answers=answers,
    )


def test_mme_is_compared_by_its_points_over_images() -> None:
    asked = [(image, number) for image in range(4) for number in range(2)]
    answers = {f"color/{i}.jpg/{n}": "yes" if n else "no" for i, n in asked}
    right = {i: {"text": answer.title() + "."} for i, answer in answers.items()}
    wrong = {**right, "color/0.jpg/0": {"text": "Yes"}, "color/1.jpg/1": {"text": "perhaps"}}
    sides = [[record("mme", rows, answers)] for rows in (right, wrong)]
    paired, reason = compare_items(*sides, seed=0)
    assert reason == ""
    assert paired is not None
    # Accuracy falls from 1 to 6/8, accuracy+ from 1 to 2/4; points of a task are hundredths.
    assert (paired.score, paired.difference.value) == ("MME-P", 0.25 + 0.5)
    assert paired.difference.n == 4
    assert paired.tests == ()


def test_only_items_that_both_were_asked_count() -> None:
    answers = {str(i): {"answer_index": 0} for i in range(6)}
    rows = {i: {"predicted_index": 0} for i in answers}
    first = [record("scienceqa", rows, answers)]
    kept = {i: {"predicted_index": int(i == "3")} for i in ("2", "3", "9")}
    second = [record("scienceqa", kept, {})]
    assert count_identical(first, second) == (2, 1)
    paired, _ = compare_items(first, second, seed=0)
    assert paired is not None
    assert (paired.difference.n, paired.difference.value) == (2, 0.5)


def test_without_right_answers_there_is_no_test() -> None:
    rows = {"1": {"predicted_index": 0}}
    sides = [[record("scienceqa", rows, {})] for _ in range(2)]
    assert compare_items(*sides, seed=0) == (
        None,
        "neither side holds the right answers to all common items",
    )


@pytest.mark.java
def test_captions_are_compared_by_cider() -> None:
    nouns = ("dog", "cat", "tree", "old house", "river", "small red boat")
    answers = {str(i): [f"a {noun} on a hill", f"one {noun}"] for i, noun in enumerate(nouns)}
    right = {i: {"caption": texts[0]} for i, texts in answers.items()}
    wrong = {i: {"caption": "a thing"} for i in answers}
    sides = [[record("coco_caption", rows, answers)] for rows in (right, wrong)]
    paired, _ = compare_items(*sides, seed=0)
    assert paired is not None
    assert paired.score == "CIDEr"
    assert paired.difference.ci_low > 0
    assert paired.tests == ()
