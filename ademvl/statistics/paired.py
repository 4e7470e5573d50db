"""Two runs on the same items: McNemar's test, the interval of their difference, and power.

Runs on the same items are compared item by item, which takes away what the items have in common.
All values are fractions; tests are two-sided, intervals have 95 % confidence.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ademvl.statistics.intervals import (
    CONFIDENCE,
    Floats,
    Interval,
    bootstrap_intervals,
    combined_half_width,
    standard_error,
)
from ademvl.statistics.seed_spread import MIN_DEGREES, UNKNOWN, Spread

POWER = 0.8
MCNEMAR = "McNemar's test, mid-p (Fagerland et al. 2013); exact binomial beside it"
WITH_SEEDS = "combined with the spread of both runs' seeds (MOVER, t)"
WITH_POOLED_SEEDS = (
    "combined with the spread of both runs' seeds, or where larger that of the study's other rows "
    "(MOVER, t)"
)
WITH_COMMON_SEEDS = "combined with the spread of their difference (MOVER, t)"
_MAX_SEEDS = 1000


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """McNemar's test of two runs' answers to the same questions.

    Attributes:
        only_first, only_second: questions that one run alone answered correctly.
        p_value: mid-p: of the exact test's, less half of the probability of what was observed.
        exact_p_value: of the exact conditional test, which errs on the safe side.
    """

    only_first: int
    only_second: int
    p_value: float
    exact_p_value: float


def mcnemar(first_correct: Sequence[bool], second_correct: Sequence[bool]) -> McNemar:
    """Test whether two runs are right equally often.

    Raises:
        ValueError: sequences of different length.
    """
    from scipy.stats import binom

    pairs = list(zip(first_correct, second_correct, strict=True))
    only_first = sum(bool(first and not second) for first, second in pairs)
    only_second = sum(bool(second and not first) for first, second in pairs)
    rarer, discordant = min(only_first, only_second), only_first + only_second
    # Two tails; half of the observed outcome's probability is left out of each.
    tail, observed = binom.cdf(rarer, discordant, 0.5), binom.pmf(rarer, discordant, 0.5)
    return McNemar(
        only_first=only_first,
        only_second=only_second,
        p_value=min(1.0, float(2 * tail - observed)),
        exact_p_value=min(1.0, float(2 * tail)),
    )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much higher the first run scores than the second, on the same items.

    Attributes:
        value, ci_low, ci_high: fractions; first minus second.
        item_error: standard error that the sampling of items gives, a fraction.
        seed_spreads: standard deviation between seeds of each run, or where larger that of the
            study's other rows; None where it is not known.
        seed_degrees: of freedom that the seeds' spread is known with, all told.
        num_seeds: of each run.
        n: items.
        method: of the interval.
    """

    value: float
    ci_low: float
    ci_high: float
    item_error: float
    seed_spreads: tuple[float | None, float | None]
    seed_degrees: int
    num_seeds: tuple[int, int]
    n: int
    method: str

    @property
    def covers_seeds(self) -> bool:
        """Whether the interval covers other trainings, not other items alone."""
        return None not in self.seed_spreads

    @property
    def is_spread_known(self) -> bool:
        """Whether the seeds' spread is known well enough for saying what the setting does."""
        return self.covers_seeds and self.seed_degrees >= MIN_DEGREES


def paired_differences(
    first: Sequence[Floats],
    second: Sequence[Floats],
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    limits: Sequence[tuple[float, float]],
    same_adapters: bool = False,
    others: Sequence[Spread] = (),
) -> list[Difference]:
    """Compare two runs of one or several seeds on the same items, by any score.

    Accuracies have `paired_proportions.accuracy_difference`.

    The items are resampled, the same for all seeds of both runs. Where both runs have several
    seeds their spread is a second level: its variance of the mean is added, with Student's t and
    Satterthwaite's degrees of freedom. Seeds are not resampled: with the two to five that there
    are, a bootstrap of them is far too narrow. Where both runs ask the same adapters, chance in
    training is common to both, and the spread is that of the difference.

    Args:
        first: for each seed (n, k), one row an item.
        second: the same of the other run, the same items in the same order.
        statistic: see `bootstrap_interval`: column sums (rows, k) to m scores, (rows, m).
        seed: of the resamples.
        limits: least and largest value of each of the m scores.
        same_adapters: the runs' seeds are, in this order, evaluations of the same adapters.
        others: spread between seeds of the study's other rows, of each of the m scores.

    Returns:
        One difference for each of the m scores.
    """
    num_columns = first[0].shape[1]
    runs = (len(first), len(second))
    stacked = np.concatenate([*first, *second], axis=1)  # (n, seeds * k)

    def by_seed(sums: Floats) -> Floats:
        parts = np.split(sums, sums.shape[1] // num_columns, axis=1)
        return np.stack([statistic(part) for part in parts])  # (seeds, rows, m)

    def difference(sums: Floats) -> Floats:
        scores = by_seed(sums)
        gained: Floats = scores[: runs[0]].mean(axis=0) - scores[runs[0] :].mean(axis=0)
        return gained

    totals = stacked.sum(axis=0, keepdims=True)
    values, scores = difference(totals)[0], by_seed(totals)[:, 0]  # (m,), (seeds, m)
    ranges = [(least - largest, largest - least) for least, largest in limits]
    intervals = bootstrap_intervals(stacked, difference, seed=seed, limits=ranges)
    return [
        add_seeds(
            value=float(values[column]),
            items=replace(interval, method=f"paired {interval.method}"),
            scores=(scores[: runs[0], column], scores[runs[0] :, column]),
            n=len(stacked),
            same_adapters=same_adapters,
            others=others[column] if others else UNKNOWN,
        )
        for column, interval in enumerate(intervals)
    ]


def add_seeds(
    *,
    value: float,
    items: Interval,
    scores: tuple[Floats, Floats],
    n: int,
    same_adapters: bool,
    largest: float = math.inf,
    others: Spread = UNKNOWN,
) -> Difference:
    """Add the seeds' spread to the interval from the items, where that of both runs is known.

    A run's spread is its own, or that of the study's other rows where it is larger. That needs the
    4 degrees of freedom of `seed_spread.MIN_DEGREES`; without other rows two seeds of each run are
    enough, as for single comparisons Student's t then covers what it says.

    Args:
        items: its interval from the items alone.
        scores: of each run's seeds.
        same_adapters: see `paired_differences`; then other rows tell nothing.
        largest: difference that there can be.
        others: spread between seeds of the study's other rows.
    """
    low, high, method = items.low, items.high, items.method
    counts = [len(run) for run in scores]
    total = counts[0] - 1 if same_adapters else sum(counts) - 2 + others.degrees
    if same_adapters or total < MIN_DEGREES:
        others = UNKNOWN
    spreads = [_larger_spread(run, others) for run in scores]
    item_error = standard_error(high - low)
    if None not in spreads:
        if same_adapters:
            method = f"{method}, {WITH_COMMON_SEEDS}"
            variance = float((scores[0] - scores[1]).var(ddof=1)) / counts[0]
            degrees = counts[0] - 1.0
        else:
            method = f"{method}, {WITH_POOLED_SEEDS if others.degrees else WITH_SEEDS}"
            variance = sum(
                (s or 0.0) ** 2 / count for s, count in zip(spreads, counts, strict=True)
            )
            # Of the larger of two variances: the degrees of either hold, see `seed_spread`.
            degrees = max(_welch_degrees(scores), float(others.degrees))
        low = value - combined_half_width(value - low, variance, degrees=degrees)
        high = value + combined_half_width(high - value, variance, degrees=degrees)
    return Difference(
        value=value,
        ci_low=max(-largest, low),
        ci_high=min(largest, high),
        item_error=item_error,
        seed_spreads=(spreads[0], spreads[1]),
        seed_degrees=total,
        num_seeds=(counts[0], counts[1]),
        n=n,
        method=method,
    )


def _larger_spread(scores: Floats, others: Spread) -> float | None:
    """Return the standard deviation between seeds, own or the others'; None where not known."""
    own = float(scores.std(ddof=1)) if len(scores) > 1 else None
    if not others.degrees:
        return own
    return max(own or 0.0, math.sqrt(others.variance))


def _welch_degrees(scores: Sequence[Floats]) -> float:
    """Return Satterthwaite's degrees of freedom of the difference of two runs' means over seeds.

    0 where a run has one seed.
    """
    if min(map(len, scores)) < 2:
        return 0.0
    variances = [float(run.var(ddof=1)) / len(run) for run in scores]
    parts = [v**2 / (len(run) - 1) for v, run in zip(variances, scores, strict=True)]
    return sum(variances) ** 2 / sum(parts) if sum(parts) else 1.0


def questions_needed(difference: Difference, to_see: float) -> int | None:
    """Return how many items would show a difference of `to_see` in 80 % of such comparisons.

    Normal approximation from the measured spread of the paired differences, with as many seeds as
    there are. None where the seeds' spread alone hides it, whatever the number of items.

    Args:
        to_see: a fraction, not 0.
    """
    spreads = zip(difference.seed_spreads, difference.num_seeds, strict=True)
    seed_variance = sum((spread or 0.0) ** 2 / count for spread, count in spreads)
    room = (to_see / _normal_reach()) ** 2 - seed_variance
    if room <= 0:
        return None
    return max(1, math.ceil(difference.item_error**2 * difference.n / room))


def seeds_needed(
    difference: Difference, to_see: float, *, assumed_spread: float | None = None
) -> int | None:
    """Return how many seeds of each run would show `to_see` on these items, in 80 % of cases.

    None where no number of seeds does, because the sampling of items alone hides the difference.

    Args:
        to_see: a fraction, not 0.
        assumed_spread: standard deviation between seeds of a run that has one seed, a fraction.

    Raises:
        ValueError: a run has one seed and nothing is assumed.
    """
    spreads = [assumed_spread if s is None else s for s in difference.seed_spreads]
    known = [spread for spread in spreads if spread is not None]
    if len(known) < 2:
        raise ValueError("the spread between seeds is not known with one seed; assume one")
    variance = sum(spread**2 for spread in known)
    return seeds_to_see(to_see, item_error=difference.item_error, seed_variance=variance)


def seeds_to_see(to_see: float, *, item_error: float, seed_variance: float) -> int | None:
    """Return how many seeds of each run show a difference in 80 % of cases; None where none do.

    Args:
        to_see: a fraction, not 0.
        item_error: standard error that the sampling of items gives, a fraction.
        seed_variance: of the difference of one seed of each run.
    """
    variance, item_variance = seed_variance, item_error**2
    if abs(to_see) < _normal_reach() * math.sqrt(item_variance):
        return None
    for num_seeds in range(2, _MAX_SEEDS):
        total = item_variance + variance / num_seeds
        degrees = 2.0 * (num_seeds - 1)
        if variance:
            degrees *= (total * num_seeds / variance) ** 2
        if abs(to_see) >= _reach(degrees) * math.sqrt(total):
            return num_seeds
    return None


def _normal_reach() -> float:
    return _reach(math.inf)


def _reach(degrees: float) -> float:
    """Return how many standard errors a difference must have to be seen with power 80 %."""
    from scipy.stats import norm, t

    tails = (0.5 + CONFIDENCE / 2, POWER)
    quantiles = norm.ppf(tails) if math.isinf(degrees) else t.ppf(tails, degrees)
    return float(np.sum(quantiles))
