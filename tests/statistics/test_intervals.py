"""Protects the intervals: Wilson, bootstrap, and seeds combined with items."""

import math

import numpy as np
import pytest

from ademvl.statistics.intervals import (
    BOOTSTRAP,
    ITEMS_ONLY,
    POOLED_SEEDS,
    SEEDS_AND_ITEMS,
    UNVARIED,
    Estimate,
    bootstrap_intervals,
    combine_seeds,
    wilson_interval,
)
from ademvl.statistics.seed_spread import Spread

WIDE = [(-100.0, 100.0)] * 2
Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def _mean_of(n):
    return lambda sums: sums / n


def _estimate(value, half_width, *, n=400):
    return Estimate(
        value=value, ci_low=value - half_width, ci_high=value + half_width, n=n, method=""
    )


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (7, 10), (3987, 4241)])
def test_wilson_interval_follows_the_formula(successes, n):
    share = successes / n
    center = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half_width = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    estimate = wilson_interval(successes, n)
    assert estimate.value == share
    assert estimate.ci_low == pytest.approx(center - half_width, abs=1e-12)
    assert estimate.ci_high == pytest.approx(center + half_width, abs=1e-12)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20 and 1/29.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(successes, n, low, high):
    estimate = wilson_interval(successes, n)
    assert (round(estimate.ci_low, 4), round(estimate.ci_high, 4)) == (low, high)


def test_wilson_interval_at_the_papers_size_is_0_7_points_wide():
    estimate = wilson_interval(round(0.94 * 4241), 4241)
    assert 100 * (estimate.ci_high - estimate.ci_low) / 2 == pytest.approx(0.7, abs=0.05)


def test_bootstrap_repeats_with_the_same_seed_and_differs_with_another():
    values = np.random.default_rng(1).normal(size=(50, 2))
    first = bootstrap_intervals(values, _mean_of(50), seed=3, limits=WIDE, num_resamples=300)
    again = bootstrap_intervals(values, _mean_of(50), seed=3, limits=WIDE, num_resamples=300)
    other = bootstrap_intervals(values, _mean_of(50), seed=4, limits=WIDE, num_resamples=300)
    assert first == again
    assert first != other


def test_bootstrap_of_a_mean_agrees_with_its_standard_error():
    values = np.random.default_rng(1).normal(size=(400, 1))
    (found,) = bootstrap_intervals(
        values, _mean_of(400), seed=0, limits=WIDE[:1], num_resamples=4000
    )
    standard_error = values.std() / math.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * Z * standard_error, rel=0.06)
    assert found.method == BOOTSTRAP


@pytest.mark.parametrize(("value", "n"), [(0.0, 1), (1.0, 1), (1.0, 40), (0.0, 4241)])
def test_bootstrap_of_items_that_all_say_the_same_is_wilsons(value, n):
    """A percentile bootstrap would be of no width there."""
    (found,) = bootstrap_intervals(
        np.full((n, 1), value), _mean_of(n), seed=0, limits=[(0.0, 1.0)], num_resamples=100
    )
    wilson = wilson_interval(round(value * n), n)
    assert (found.low, found.high) == pytest.approx((wilson.ci_low, wilson.ci_high))
    assert found.method == UNVARIED


def test_bootstrap_of_a_single_caption_has_a_width_within_the_metrics_range():
    (found,) = bootstrap_intervals(
        np.full((1, 1), 4.0), _mean_of(1), seed=0, limits=[(0.0, 10.0)], num_resamples=100
    )
    assert 0 < found.low < 4 < found.high < 10


def test_one_seed_keeps_its_interval_and_says_so():
    combined = combine_seeds([wilson_interval(80, 100)])
    assert combined.method == ITEMS_ONLY
    assert combined.ci_low == wilson_interval(80, 100).ci_low


def test_equal_seeds_leave_the_items_uncertainty():
    single = wilson_interval(99, 100)
    combined = combine_seeds([single, single, single])
    assert combined.value == pytest.approx(single.value)
    assert combined.ci_low == pytest.approx(single.ci_low)
    assert combined.ci_high == pytest.approx(single.ci_high)


def test_seeds_alone_give_students_interval():
    # Variance 0.00025, standard error sqrt(0.00025 / 5), t(4 degrees of freedom) = 2.7764.
    combined = combine_seeds([_estimate(value, 0.0) for value in (0.83, 0.84, 0.85, 0.86, 0.87)])
    assert combined.value == pytest.approx(0.85)
    expected = 2.77645 * math.sqrt(0.00025 / 5)
    assert combined.ci_high - combined.value == pytest.approx(expected, rel=1e-4)
    assert (combined.method, combined.covers_seeds) == (SEEDS_AND_ITEMS, True)


def test_other_rows_widen_the_interval_of_seeds_that_agree_by_luck():
    # Two equal seeds: the others' variance 0.0004 over two, t of their 6 degrees = 2.4469.
    seeds = [_estimate(0.9, 0.0), _estimate(0.9, 0.0)]
    combined = combine_seeds(seeds, Spread(variance=0.0004, degrees=6))
    expected = 2.44691 * math.sqrt(0.0004 / 2)
    assert combined.ci_high - combined.value == pytest.approx(expected, rel=1e-4)
    assert (combined.method, combined.covers_seeds) == (POOLED_SEEDS, True)


def test_one_seed_has_the_spread_of_other_rows_that_is_known():
    seed = [_estimate(0.9, 0.01)]
    assert not combine_seeds(seed, Spread(variance=0.0004, degrees=3)).covers_seeds
    combined = combine_seeds(seed, Spread(variance=0.0004, degrees=4))
    assert combined.covers_seeds
    assert combined.ci_high - combined.value > 0.02


def test_few_seeds_alone_cover_items_only():
    combined = combine_seeds([_estimate(0.88, 0.01), _estimate(0.92, 0.01)])
    assert (combined.method, combined.covers_seeds) == (ITEMS_ONLY, False)
    assert combined.ci_high - combined.value == pytest.approx(0.01)


def test_interval_of_a_proportion_stays_within_its_range():
    others = Spread(variance=0.01, degrees=4)
    combined = combine_seeds([wilson_interval(90, 100), wilson_interval(100, 100)], others)
    assert combined.ci_high == 1.0
    assert combine_seeds([_estimate(0.1, 0.0), _estimate(0.3, 0.0)], others).ci_low == 0.0


def test_seeds_over_different_items_are_refused():
    with pytest.raises(ValueError, match="same number of items"):
        combine_seeds([wilson_interval(8, 10), wilson_interval(80, 100)])
