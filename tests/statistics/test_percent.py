"""Protects how scores and differences are printed: times 100, differences with their sign."""

from dataclasses import replace

from ademvl.statistics.intervals import ITEMS_MARK, wilson_interval
from ademvl.statistics.percent import in_percent, printed

HALF = wilson_interval(50, 100)  # 0.4038 to 0.5962


def test_fractions_become_percent() -> None:
    assert in_percent(HALF) == (50.0, 100 * HALF.ci_low, 100 * HALF.ci_high)


def test_brackets_tell_what_an_interval_covers() -> None:
    assert printed(HALF, decimals=1) == ("50.0", f"(40.4, 59.6){ITEMS_MARK}")
    assert printed(replace(HALF, covers_seeds=True)) == ("50.00", "[40.38, 59.62]")
