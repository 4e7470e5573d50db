"""Protects the verdict on an effect: one seed, too few seeds, and the interval's place."""

import pytest

from ademvl.statistics.effect_verdict import judge_effect
from ademvl.statistics.paired import Difference


def _difference(low, high, *, num_seeds=(3, 3), degrees=4, spreads=(0.01, 0.01)):
    return Difference(
        value=(low + high) / 2, ci_low=low, ci_high=high, item_error=0.005, seed_spreads=spreads,
        seed_degrees=degrees, num_seeds=num_seeds, n=1000, method="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (_difference(0.3, 0.5, num_seeds=(2, 1), spreads=(0.01, None)), "cannot tell, one seed"),
        (_difference(0.3, 0.5, num_seeds=(8, 1), degrees=20), "cannot tell, one seed"),
        (
            _difference(0.3, 0.5, num_seeds=(2, 2), degrees=2),
            "cannot tell, too few seeds (2 of 4 degrees of freedom)",
        ),
        (_difference(0.3, 0.5), "seen"),
        (_difference(-0.5, -0.3), "seen"),
        (_difference(0.001, 0.005), "seen"),
        (_difference(-0.0075, 0.0069), "not there (within 1 point)"),
        (_difference(-0.0101, 0.005), "cannot tell, may be none, or more than 1 point"),
        (_difference(-0.005, 0.005, num_seeds=(1, 1), degrees=0), "cannot tell, one seed"),
    ],
)
def test_verdict_is_that_of_the_rule(difference, words):
    assert judge_effect(difference).words == words
