"""Protects the interval of a difference of accuracies: published values, and never no width."""

import math

import numpy as np
import pytest

from ademvl.statistics.intervals import wilson_interval
from ademvl.statistics.paired import WITH_COMMON_SEEDS, WITH_SEEDS
from ademvl.statistics.paired_proportions import (
    PAIRED_SCORE,
    accuracy_difference,
    paired_score_interval,
)
from ademvl.statistics.seed_spread import Spread


def _pairs(only_first, only_second, *, both=0, neither=0):
    """Return the answers of two runs of one seed, (1, n) each."""
    first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
    second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
    return np.array([first]), np.array([second])


@pytest.mark.parametrize(
    ("only_first", "only_second", "n", "low", "high", "digits"),
    [
        # Fagerland, Lydersen and Laake 2014 (Stat Med 33), airway hyper-responsiveness
        # (Bentur et al. 2009): 1, 1, 7, 12.
        (1, 7, 21, -0.517, -0.026, 3),
        # Fagerland, Lydersen and Laake 2017 (Statistical Analysis of Contingency Tables, ch. 8),
        # complete response (Cavo et al. 2012): 59, 6, 16, 80; from their package's tests.
        (6, 16, 161, -0.1240, -0.0054, 4),
        # Tango 1998, as the tests of R's ratesci cite it: 4, 9, 3, 16.
        (9, 3, 32, -0.027, 0.390, 3),
    ],
)
def test_interval_has_the_published_values(only_first, only_second, n, low, high, digits):
    found = paired_score_interval(only_first, only_second, n)
    assert tuple(round(end, digits) for end in found) == (low, high)


@pytest.mark.parametrize("n", [1, 2, 17, 4241])
@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
def test_runs_that_answer_all_alike_have_an_interval_with_a_width(n, right):
    both = int(right * n)
    found = accuracy_difference(*_pairs(0, 0, both=both, neither=n - both))
    bound = wilson_interval(0, n).ci_high
    assert (found.ci_low, found.value, found.ci_high) == pytest.approx((-bound, 0, bound))
    assert found.method == PAIRED_SCORE


@pytest.mark.parametrize("n", range(1, 7))
def test_interval_of_any_answers_has_a_width_holds_the_value_and_stays_within_one(n):
    for only_first in range(n + 1):
        for only_second in range(n + 1 - only_first):
            low, high = paired_score_interval(only_first, only_second, n)
            assert -1 <= low <= (only_first - only_second) / n <= high <= 1
            assert high - low > 0.1
            mirrored = paired_score_interval(only_second, only_first, n)
            assert mirrored == pytest.approx((-high, -low), abs=1e-9)


def test_interval_agrees_with_the_standard_error_where_there_are_many():
    found = accuracy_difference(*_pairs(600, 400, both=8000, neither=1000))
    error = math.sqrt((0.06 + 0.04 - 0.02**2) / 10_000)
    assert found.ci_low == pytest.approx(0.02 - 1.96 * error, abs=0.03 * error)
    assert found.item_error == pytest.approx(error, rel=0.01)


def test_interval_covers_the_truth_in_19_of_20_samples():
    generator = np.random.default_rng(0)
    shares = np.array([0.05, 0.02, 0.93])
    samples = generator.multinomial(60, shares, size=2000)
    ends = [paired_score_interval(first, second, 60) for first, second, _ in samples]
    covered = np.mean([low <= 0.03 <= high for low, high in ends])
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors: 0.0146


def test_mean_over_seeds_has_the_items_interval_of_its_own_spread():
    """Answers that are new draws in every seed: k seeds of n questions tell as much as k n."""
    generator = np.random.default_rng(0)
    first, second = generator.random((4, 20_000)) < 0.8, generator.random((4, 20_000)) < 0.7
    found = accuracy_difference(first, second)
    gained = first.mean(axis=0) - second.mean(axis=0)
    assert found.item_error == pytest.approx(gained.std() / math.sqrt(20_000), rel=0.01)
    assert found.method == f"{PAIRED_SCORE}, {WITH_SEEDS}"


def test_seeds_that_answer_all_alike_tell_no_more_than_one():
    first, second = _pairs(3, 1, both=10, neither=6)
    one = accuracy_difference(first, second)
    three = accuracy_difference(np.repeat(first, 3, axis=0), np.repeat(second, 3, axis=0))
    assert (three.ci_low, three.ci_high) == pytest.approx((one.ci_low, one.ci_high))


def test_same_adapters_with_the_same_answers_do_not_differ_by_their_seeds():
    answers = np.random.default_rng(0).random((3, 50)) < 0.6
    found = accuracy_difference(answers, answers, same_adapters=True)
    bound = wilson_interval(0, 50).ci_high
    assert (found.ci_low, found.ci_high) == pytest.approx((-bound, bound))
    assert found.method == f"{PAIRED_SCORE}, {WITH_COMMON_SEEDS}"


def test_one_question_that_one_run_alone_answers_rightly_says_little():
    found = accuracy_difference(*_pairs(1, 0))
    assert found.value == 1.0
    assert found.ci_low < 0 < found.ci_high == 1.0


def test_spread_of_other_rows_widens_a_difference_of_seeds_that_agree_by_luck():
    first = np.tile(np.arange(100) < 90, (2, 1))
    second = np.tile(np.arange(100) < 85, (2, 1))
    alone = accuracy_difference(first, second)
    assert (alone.seed_degrees, alone.is_spread_known) == (2, False)
    beside = accuracy_difference(first, second, others=Spread(variance=0.03**2, degrees=4))
    assert (beside.seed_degrees, beside.is_spread_known) == (6, True)
    assert beside.ci_low < alone.ci_low
    # Two runs of two seeds: variance 2 * 0.03^2 / 2, beside that of items.
    assert (beside.ci_high - beside.value) > 1.96 * 0.03
    same = accuracy_difference(
        first, second, same_adapters=True, others=Spread(variance=0.03**2, degrees=4)
    )
    assert (same.seed_degrees, same.is_spread_known) == (1, False)
