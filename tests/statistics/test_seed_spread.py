"""Protects the spread of seeds that intervals are made with: pooling, and what is not known."""

import pytest

from ademvl.statistics.seed_spread import (
    UNKNOWN,
    SeedRow,
    Spread,
    known_spread,
    pool,
    spread_of,
    spread_of_others,
)


def _row(adapters, *scores, kind="test"):
    return SeedRow(kind=kind, adapters=adapters, scores={"AVG": scores})


def test_one_seed_has_no_spread():
    assert spread_of([0.9]) == UNKNOWN
    assert spread_of([0.8, 0.9]) == Spread(variance=pytest.approx(0.005), degrees=1)


def test_pooled_variance_is_weighted_by_degrees_of_freedom():
    spreads = [Spread(variance=0.4, degrees=1), Spread(variance=0.1, degrees=3), UNKNOWN]
    assert pool(spreads) == Spread(variance=pytest.approx(0.7 / 4), degrees=4)
    assert pool([]) == UNKNOWN


def test_others_are_of_the_same_kind_and_other_adapters_each_once():
    first, again = _row("a", 0.8, 0.9), _row("a", 0.1, 0.9)
    other, val = _row("b", 0.5, 0.6), _row("c", 0.1, 0.9, kind="val")
    same_adapters = _row("b", 0.0, 1.0)
    rows = [first, again, other, same_adapters, val, _row("d", 0.7)]
    assert spread_of_others(rows, "AVG", first) == spread_of([0.5, 0.6])
    assert spread_of_others(rows, "IMG", first) == UNKNOWN
    assert spread_of_others(rows, "AVG", first, other) == UNKNOWN


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        ((0.1, 1), (0.2, 2), None),  # three degrees of freedom
        ((0.1, 1), (0.2, 3), (0.2, 3)),  # seeds that agree by luck
        ((0.3, 1), (0.2, 3), (0.3, 3)),
        ((0.1, 4), (0.0, 0), (0.1, 4)),
        ((0.0, 0), (0.2, 6), (0.2, 6)),  # one seed
    ],
)
def test_larger_spread_counts_with_the_degrees_of_the_better_known(own, others, expected):
    spreads = [Spread(variance=variance, degrees=degrees) for variance, degrees in (own, others)]
    found = known_spread(*spreads)
    assert (found and (found.variance, found.degrees)) == expected
