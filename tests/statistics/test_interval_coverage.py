"""Protects the coverage of tables' intervals: `benchmarks/interval_coverage.py`, in short."""

import pytest

from benchmarks.interval_coverage import Plan, simulate

STUDIES = 600
# 93 %, less three standard errors of a coverage of 93 % (of a quarter of the studies, when close).
LEAST, LEAST_WHEN_CLOSE = 0.93 - 3 * 0.0104, 0.93 - 3 * 0.0208


@pytest.mark.parametrize("plan", [Plan(1, 3), Plan(2, 2), Plan(3, 3)])
@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_mean_over_seeds_is_covered_also_where_seeds_agree_by_luck(plan, spread):
    found = simulate(plan, spread, 300, studies=STUDIES)
    assert found.coverage >= LEAST
    assert not found.when_close < LEAST_WHEN_CLOSE  # nan with one seed


def test_without_known_spread_these_trainings_are_covered_and_others_are_not():
    lone = simulate(Plan(1, 1), 0.03, 2000, studies=STUDIES)
    assert lone.coverage >= LEAST
    several = simulate(Plan(1, 3), 0.03, 2000, studies=STUDIES)
    assert several.width > 3 * lone.width
