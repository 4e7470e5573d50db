"""Protects tables from numbers that no scoring can give: each is named, none is printed."""

import math
from pathlib import Path
from typing import Any

import pytest

from ademvl.config.tasks import facts_of
from ademvl.reporting.score_entries import impossible_numbers, read_estimates
from ademvl.statistics.intervals import BOOTSTRAP, WILSON, wilson_interval
from ademvl.tasks.mme.scores import score_answers

SCIENCEQA, CAPTIONS, MME = map(facts_of, ("scienceqa", "coco_caption", "instruction"))
PATH = Path("scores/scienceqa.json")
GOOD = {"n": 120, "percent": 74.2, "ci_low": 65.7, "ci_high": 81.2, "method": WILSON}

IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"percent": 150.0}, "AVG: percent is 150.0, outside 0 to 100"),
    ({"percent": -0.1}, "AVG: percent is -0.1, outside 0 to 100"),
    ({"percent": math.nan}, "AVG: percent is nan"),
    ({"percent": math.inf}, "AVG: percent is inf"),
    ({"percent": 10**400}, f"AVG: percent is {10**400}, outside 0 to 100"),
    ({"percent": None}, "AVG: percent is None, not a number"),
    ({"percent": "74.2"}, "AVG: percent is '74.2', not a number"),
    ({"percent": True}, "AVG: percent is True, not a number"),
    ({"percent": 99.9}, "AVG: percent 99.9 is outside its interval, 65.7 to 81.2"),
    ({"percent": 10.0}, "AVG: percent 10.0 is outside its interval, 65.7 to 81.2"),
    ({"n": -5}, "AVG: n is -5, not a count"),
    ({"n": 1.5}, "AVG: n is 1.5, not a count"),
    ({"n": 120.0}, "AVG: n is 120.0, not a count"),
    ({"n": math.nan}, "AVG: n is nan, not a count"),
    ({"n": True}, "AVG: n is True, not a count"),
    ({"n": "120"}, "AVG: n is '120', not a count"),
    ({"n": None}, "AVG: n is None, not a count"),
    ({"ci_low": 90.0}, "AVG: ci_low 90.0 is above ci_high 81.2"),
    ({"ci_low": -1.0}, "AVG: ci_low is -1.0, outside 0 to 100"),
    ({"ci_low": math.nan}, "AVG: ci_low is nan"),
    ({"ci_high": 101.0}, "AVG: ci_high is 101.0, outside 0 to 100"),
    ({"ci_high": -math.inf}, "AVG: ci_high is -inf"),
    ({"ci_high": []}, "AVG: ci_high is [], not a number"),
]


@pytest.mark.parametrize(("changes", "finding"), IMPOSSIBLE)
def test_number_that_cannot_be_is_named(changes: dict[str, Any], finding: str) -> None:
    assert impossible_numbers({"columns": {"AVG": {**GOOD, **changes}}}, PATH, SCIENCEQA) == [
        finding
    ]


def test_entry_that_is_no_object_is_named() -> None:
    assert impossible_numbers({"columns": {"AVG": 1}}, PATH, SCIENCEQA) == [
        "AVG: is 1, not an object"
    ]


@pytest.mark.parametrize("successes", [0, 1, 60, 119, 120])
def test_every_proportion_is_possible(successes: int) -> None:
    entry = wilson_interval(successes, 120).as_percent()
    assert impossible_numbers({"columns": {"AVG": entry, "NO": None}}, PATH, SCIENCEQA) == []


def test_bootstrap_may_leave_the_value_outside_and_cider_may_pass_100() -> None:
    outside = {**GOOD, "method": BOOTSTRAP, "percent": 82.0}
    cider = {**GOOD, "method": BOOTSTRAP, "percent": 496.9, "ci_low": 450.2, "ci_high": 540.4}
    assert (
        impossible_numbers({"metrics": {"BLEU-4": outside, "CIDEr": cider}}, PATH, CAPTIONS) == []
    )
    (finding,) = impossible_numbers(
        {"metrics": {"BLEU-4": {**outside, "ci_high": 101}}}, PATH, CAPTIONS
    )
    assert finding == "BLEU-4: ci_high is 101, outside 0 to 100"


def test_points_of_mme_have_their_own_ends() -> None:
    entry = {"n": 2114, "score": 1500.0, "ci_low": 1400.0, "ci_high": 1600.0, "method": BOOTSTRAP}
    sums: dict[str, Any] = {"perception": entry, "cognition": None}
    assert impossible_numbers({"sums": sums}, PATH, MME) == []
    (finding, *_) = impossible_numbers(
        {"sums": {"perception": None, "cognition": entry}}, PATH, MME
    )
    assert finding == "MME-C: score is 1500.0, outside 0 to 800"
    assert impossible_numbers(score_answers({}), PATH, MME) == []


def test_column_without_items_is_left_out() -> None:
    raw = {"columns": {"AVG": GOOD, "NO": None, "NAT": {"n": 0, "percent": None}}}
    assert list(read_estimates(raw, PATH, SCIENCEQA)) == ["AVG"]
