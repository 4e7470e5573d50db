"""Protects comparisons of two runs: McNemar, paired bootstrap, seeds as second level, power."""

import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind, ttest_rel

from ademvl.statistics.intervals import BOOTSTRAP, wilson_interval
from ademvl.statistics.paired import (
    WITH_COMMON_SEEDS,
    WITH_SEEDS,
    Difference,
    mcnemar,
    paired_differences,
    questions_needed,
    seeds_needed,
)

# Resampling noise of a 2.5 % quantile among 10,000, in standard errors: about 0.03.
BOOTSTRAP_TOLERANCE = 0.04
WIDE = [(-100.0, 100.0)]
# Nothing that items could say otherwise, so that items which all say the same leave no doubt.
NO_RANGE = [(0.0, 0.0)]


def _pairs(only_first, only_second, both=0, neither=0):
    first = [True] * only_first + [False] * only_second + [True] * both + [False] * neither
    second = [False] * only_first + [True] * only_second + [True] * both + [False] * neither
    return first, second


def _means(n):
    return lambda sums: sums / n


def _difference(**changes):
    fields = {
        "value": 0.01,
        "ci_low": 0.0,
        "ci_high": 0.02,
        "item_error": 0.005,
        "seed_spreads": (None, None),
        "seed_degrees": 0,
        "num_seeds": (1, 1),
        "n": 1000,
        "method": "",
    }
    return Difference(**{**fields, **changes})


def test_mcnemar_gives_the_published_p_values():
    # Fagerland, Lydersen and Laake 2013, airway hyper-responsiveness: 1 against 7 of 21.
    found = mcnemar(*_pairs(1, 7, both=1, neither=12))
    assert found.exact_p_value == pytest.approx(0.0703, abs=5e-5)
    assert found.p_value == pytest.approx(0.0391, abs=5e-5)


def test_mcnemar_counts_only_differing_pairs_and_either_order():
    # 8 against 2 discordant pairs: 2 * (1 + 10 + 45) / 1024.
    first, second = _pairs(8, 2, both=50)
    found = mcnemar(first, second)
    assert found.exact_p_value == pytest.approx(112 / 1024)
    assert found.p_value == pytest.approx((112 - 45) / 1024)
    assert mcnemar(second, first).p_value == found.p_value
    assert (found.only_first, found.only_second) == (8, 2)


@pytest.mark.parametrize("pairs", [(0, 0), (3, 3)])
def test_mcnemar_of_equals_is_one_or_nearly(pairs):
    found = mcnemar(*_pairs(*pairs, both=4))
    assert found.exact_p_value == 1.0
    assert found.p_value >= 0.5


def test_mcnemar_refuses_other_numbers_of_questions():
    with pytest.raises(ValueError, match="shorter"):
        mcnemar([True, False], [True])


def test_paired_interval_agrees_with_the_standard_error_of_the_differences():
    generator = np.random.default_rng(0)
    common = generator.normal(size=(800, 1))
    first = common + generator.normal(0.3, 0.2, size=(800, 1))
    second = common + generator.normal(0.0, 0.2, size=(800, 1))
    (found,) = paired_differences([first], [second], _means(800), seed=0, limits=WIDE)
    error = (first - second).std() / math.sqrt(800)
    assert found.value == pytest.approx((first - second).mean())
    assert found.item_error == pytest.approx(error, rel=BOOTSTRAP_TOLERANCE)
    assert found.ci_low == pytest.approx(
        found.value - 1.96 * error, abs=2 * BOOTSTRAP_TOLERANCE * error
    )
    assert found.method == f"paired {BOOTSTRAP}"
    # Unpaired it would be several times as wide.
    assert found.item_error < 0.25 * math.sqrt(2) * common.std() / math.sqrt(800)


def test_same_seed_repeats_the_interval():
    values = [np.random.default_rng(number).normal(size=(50, 2)) for number in range(2)]
    first, again, other = (
        paired_differences(values[:1], values[1:], _means(50), seed=seed, limits=[*WIDE, *WIDE])
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_swapped_runs_swap_the_signs():
    values = [np.random.default_rng(number).normal(size=(60, 1)) for number in range(2)]
    (there,) = paired_differences(values[:1], values[1:], _means(60), seed=1, limits=WIDE)
    (back,) = paired_differences(values[1:], values[:1], _means(60), seed=1, limits=WIDE)
    assert back.value == pytest.approx(-there.value)
    assert back.ci_low == pytest.approx(-there.ci_high)


def test_seeds_alone_give_welchs_interval():
    """All items of a seed alike: nothing is left but the spread between seeds."""
    scores = ([0.90, 0.92, 0.97], [0.85, 0.86, 0.88, 0.87])
    runs = [[np.full((20, 1), score) for score in run] for run in scores]
    (found,) = paired_differences(*runs, _means(20), seed=0, limits=NO_RANGE)
    expected = ttest_ind(*scores, equal_var=False).confidence_interval()
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    assert found.method.endswith(WITH_SEEDS)
    assert found.num_seeds == (3, 4)


def test_chance_that_both_evaluations_of_an_adapter_share_does_not_count():
    """All items of a seed alike: nothing is left but the spread of the difference (t-test)."""
    scores = ([0.90, 0.82, 0.97], [0.85, 0.78, 0.93])
    runs = [[np.full((20, 1), score) for score in run] for run in scores]
    (found,) = paired_differences(*runs, _means(20), seed=0, limits=NO_RANGE, same_adapters=True)
    expected = ttest_rel(*scores).confidence_interval()
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))
    assert found.method.endswith(WITH_COMMON_SEEDS)
    (none,) = paired_differences(
        runs[0], runs[0], _means(20), seed=0, limits=[(0.0, 1.0)], same_adapters=True
    )
    bound = wilson_interval(0, 20).ci_high  # none of 20 items differs
    assert (none.ci_low, none.ci_high) == pytest.approx((-bound, bound))


def test_one_seed_of_either_run_leaves_the_spread_unknown():
    generator = np.random.default_rng(0)
    runs = [[generator.normal(size=(40, 1)) for _ in range(seeds)] for seeds in (1, 3)]
    (found,) = paired_differences(*runs, _means(40), seed=0, limits=WIDE)
    assert found.method == f"paired {BOOTSTRAP}"
    assert found.seed_spreads[0] is None
    assert found.seed_spreads[1] > 0


def test_statistic_of_sums_is_computed_before_seeds_are_averaged():
    """A ratio of sums, as corpus metrics are: 1/2 and 9/4 are the two seeds' scores."""
    first = [np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[4.0, 2.0], [5.0, 2.0]])]
    second = [np.array([[1.0, 1.0], [1.0, 1.0]])]

    def ratio(sums):
        return sums[:, :1] / sums[:, 1:]

    (found,) = paired_differences(first, second, ratio, seed=0, limits=WIDE)
    assert found.value == pytest.approx((1 / 2 + 9 / 4) / 2 - 1)


def test_needed_questions_follow_the_formula_of_normal_power():
    reach = norm.ppf(0.975) + norm.ppf(0.8)
    expected = math.ceil(0.005**2 * 1000 * (reach / 0.01) ** 2)
    assert questions_needed(_difference(), 0.01) == expected
    assert questions_needed(_difference(), -0.01) == expected


def test_needed_questions_show_the_difference_in_four_of_five_simulations():
    generator = np.random.default_rng(0)
    only_first, only_second = 0.06, 0.03
    n = 2000
    error = math.sqrt((only_first + only_second - 0.03**2) / n)
    needed = questions_needed(_difference(item_error=error, n=n), 0.03)
    shown = 0
    for _ in range(400):
        won, lost, _ = generator.multinomial(needed, [only_first, only_second, 0.91])
        shown += mcnemar(*_pairs(won, lost)).p_value < 0.05
    assert shown / 400 == pytest.approx(0.8, abs=0.06)  # three standard errors


def test_no_number_of_questions_helps_against_the_spread_of_seeds():
    noisy = _difference(seed_spreads=(0.02, 0.02), num_seeds=(2, 2))
    assert questions_needed(noisy, 0.01) is None


def test_needed_seeds_are_the_fewest_that_suffice():
    noisy = _difference(seed_spreads=(0.01, 0.01), num_seeds=(2, 2), item_error=0.0)
    needed = seeds_needed(noisy, 0.01)
    assert needed is not None
    generator = np.random.default_rng(0)

    def power(num_seeds):
        scores = generator.normal(0.0, 0.01, size=(2, 3000, num_seeds))
        return np.mean(ttest_ind(scores[0] + 0.01, scores[1], axis=1).pvalue < 0.05)

    # Student's quantiles stand in for the noncentral distribution: within one seed or two.
    assert power(needed) > 0.77
    assert power(needed - 2) < 0.8


def test_no_number_of_seeds_helps_against_few_questions():
    few = _difference(seed_spreads=(0.001, 0.001), num_seeds=(2, 2), item_error=0.02)
    assert seeds_needed(few, 0.01) is None


def test_spread_of_one_seed_must_be_assumed():
    with pytest.raises(ValueError, match="assume one"):
        seeds_needed(_difference(), 0.02)
    assert seeds_needed(_difference(item_error=0.001), 0.02, assumed_spread=0.005) == 3
