"""Protects the verdict of tables: its rule, and its error rate on simulated studies."""

import math

import pytest

from ademvl.statistics.intervals import combine_seeds, wilson_interval
from ademvl.statistics.seed_spread import Spread
from ademvl.statistics.simulation import SimulatedStudy, simulate_verdicts
from ademvl.statistics.verdict import further_seed_half_width, verdict

N = 4241
TRIALS = 400
# 5 % of 400, and three standard errors of it.
MOST_ERRORS = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def _seeds(*accuracies):
    return [wilson_interval(round(accuracy * N), N) for accuracy in accuracies]


def test_inside_the_interval_of_the_tables_is_reproduced():
    seeds = _seeds(0.935, 0.938, 0.941)
    combined = combine_seeds(seeds)
    assert verdict(seeds, combined.ci_high - 1e-6).outcome == "reproduced"
    assert verdict(seeds, combined.ci_low + 1e-6).outcome == "reproduced"
    assert verdict(seeds, combined.ci_high + 1e-6).outcome != "reproduced"


def test_far_outside_is_below_or_above_by_the_difference_with_its_interval():
    seeds = _seeds(0.90, 0.90, 0.901, 0.899, 0.90)
    combined = combine_seeds(seeds)
    below = verdict(seeds, 0.94)
    assert below.outcome == "below"
    assert below.difference == pytest.approx(combined.value - 0.94)
    interval = (combined.ci_low - 0.94, combined.ci_high - 0.94)
    assert (below.ci_low, below.ci_high) == pytest.approx(interval)
    assert verdict(seeds, 0.86).outcome == "above"


def test_one_seed_outside_of_its_interval_cannot_tell():
    found = verdict(_seeds(0.90), 0.94)
    assert found.outcome == "cannot tell"
    assert found.num_seeds == 1


def test_one_seed_within_its_interval_is_reproduced():
    assert verdict(_seeds(0.94), 0.943).outcome == "reproduced"


def test_between_the_two_intervals_more_seeds_are_needed():
    seeds = _seeds(0.92, 0.94, 0.93, 0.925, 0.935)
    combined = combine_seeds(seeds)
    reach = further_seed_half_width([seed.value for seed in seeds])
    assert combined.ci_high < combined.value + reach
    assert verdict(seeds, combined.value + 0.99 * reach).outcome == "cannot tell"
    assert verdict(seeds, combined.value + 1.01 * reach).outcome == "below"


def test_further_seed_lies_within_students_reach():
    # Two seeds 0.02 apart: variance 0.0002; t(4) = 2.77645, sqrt(1.5).
    others = Spread(variance=0.0001, degrees=4)
    expected = 2.77645 * math.sqrt(0.0002) * math.sqrt(1.5)
    assert further_seed_half_width([0.9, 0.92], others) == pytest.approx(expected, rel=1e-5)
    assert further_seed_half_width([0.9]) == math.inf


def test_few_seeds_that_agree_by_luck_cannot_tell_without_other_rows():
    seeds = _seeds(0.90, 0.90, 0.90)
    assert verdict(seeds, 0.94).outcome == "cannot tell"
    others = Spread(variance=0.0035**2, degrees=6)
    assert verdict(seeds, 0.94, others=others).outcome == "below"
    assert verdict(seeds, 0.94, others=Spread(variance=0.03**2, degrees=6)).outcome != "below"


def test_rounding_of_the_printed_number_counts_for_it():
    seeds = _seeds(0.94)
    just_outside = combine_seeds(seeds).ci_high + 0.0004
    assert verdict(seeds, just_outside).outcome == "cannot tell"
    assert verdict(seeds, just_outside, half_unit=0.0005).outcome == "reproduced"


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="needs estimates"):
        verdict([], 0.9)


@pytest.mark.parametrize("reported", ["training", "mean"])
@pytest.mark.parametrize(("num_seeds", "spread"), [(2, 0.01), (3, 0.0035), (5, 0.01)])
def test_true_reproductions_are_rarely_called_failures(num_seeds, spread, reported):
    study = SimulatedStudy(
        num_seeds=num_seeds, seed_spread=spread, num_questions=1500, reported=reported
    )
    rates = simulate_verdicts(study, num_trials=TRIALS, seed=1)
    assert rates.get("below", 0) + rates.get("above", 0) <= MOST_ERRORS


def test_rate_is_near_five_percent_where_seeds_matter_most():
    study = SimulatedStudy(num_seeds=10, seed_spread=0.02, num_questions=1500)
    rates = simulate_verdicts(study, num_trials=TRIALS, seed=2)
    wrong = rates.get("below", 0) + rates.get("above", 0)
    assert 0.05 - 3 * math.sqrt(0.05 * 0.95 / TRIALS) <= wrong <= MOST_ERRORS


def test_interval_of_the_mean_alone_would_call_too_many_failures():
    study = SimulatedStudy(num_seeds=5, seed_spread=0.01, num_questions=4241)
    rates = simulate_verdicts(study, num_trials=TRIALS, seed=3)
    assert 1 - rates["reproduced"] > 2 * MOST_ERRORS


def test_real_difference_is_seen_with_enough_seeds_and_never_with_one():
    many = SimulatedStudy(num_seeds=5, seed_spread=0.0035, shift=0.02)
    rates = simulate_verdicts(many, num_trials=TRIALS // 2, seed=4)
    assert rates["below"] > 0.8
    one = SimulatedStudy(num_seeds=1, shift=0.02)
    rates = simulate_verdicts(one, num_trials=TRIALS // 2, seed=5)
    assert set(rates) <= {"reproduced", "cannot tell"}
    assert rates["cannot tell"] > 0.8
