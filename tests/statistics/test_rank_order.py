"""Protects Kendall's tau: that of scipy, and an interval as wide as the rows are uncertain."""

import pytest

from ademvl.statistics.rank_order import METHOD, kendall_interval, kendall_tau

ROWS = [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("second", "expected"),
    # By hand: all pairs agree; none; 7 of 10 less 3 of 10; of 9 untied 9 over sqrt(10 * 9).
    [(ROWS, 1.0), (ROWS[::-1], -1.0), ([2, 1, 4, 3, 2.5], 0.2), ([1, 1, 3, 4, 5], 9 / 90**0.5)],
)
def test_tau_is_that_of_pairs(second, expected):
    from scipy.stats import kendalltau

    assert kendall_tau(ROWS, second) == pytest.approx(kendalltau(ROWS, second).statistic)
    assert kendall_tau(ROWS, second) == pytest.approx(expected)


def test_certain_rows_leave_the_order_and_uncertain_ones_do_not():
    certain = kendall_interval(ROWS, [(x - 0.01, x + 0.01) for x in ROWS], ROWS, seed=0)
    assert (certain.low, certain.high, certain.method) == (1.0, 1.0, METHOD)
    unknown = kendall_interval(ROWS, [(x - 100, x + 100) for x in ROWS], ROWS, seed=0)
    assert unknown.low < -0.5
    assert unknown.high > 0.5
