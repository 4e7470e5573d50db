"""Intervals of measured scores: Wilson, bootstrap over items, and seeds as a second level.

All values are fractions, all intervals are two-sided with 95 % confidence. Every interval carries
the name of its method into the score files.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ademvl.statistics.seed_spread import MIN_DEGREES, UNKNOWN, Spread, known_spread, spread_of

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
WILSON = "Wilson score interval"
BOOTSTRAP = f"percentile bootstrap over items, {NUM_RESAMPLES:,} resamples"
UNVARIED = "bound for items that all say the same, from Wilson's for none of n"
SEEDS_AND_ITEMS = "seeds and items combined (MOVER, Satterthwaite)"
POOLED_SEEDS = (
    f"{SEEDS_AND_ITEMS[:-1]}; spread of seeds: the larger of the row's own and that pooled over "
    "other rows)"
)
ITEMS_ONLY = (
    f"items only: the spread of seeds is not known, fewer than {MIN_DEGREES} degrees of freedom"
)
ITEMS_MARK = "†"
ITEMS_NOTE = (
    f"(low, high){ITEMS_MARK}: the interval covers other questions or images, but no other "
    "training: one seed, or so few that their spread is not known."
)

_RESAMPLES_AT_ONCE = 200
_ROUNDING = 1e-12
"""Of a score's range: equal sums that were added in another order differ by less."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured number with its uncertainty.

    Attributes:
        value, ci_low, ci_high: fractions; of scores that are no share, such as CIDEr and MME's
            points, hundredths.
        n: items that were scored.
        method: of the interval.
        covers_seeds: the interval covers other trainings too, not other items alone.
    """

    value: float
    ci_low: float
    ci_high: float
    n: int
    method: str
    covers_seeds: bool = False

    def as_percent(self) -> dict[str, float | int | str]:
        """Render for a score file; `percent`, `ci_low` and `ci_high` in percent."""
        return {
            "n": self.n,
            "percent": 100 * self.value,
            "ci_low": 100 * self.ci_low,
            "ci_high": 100 * self.ci_high,
            "method": self.method,
        }


def bracketed(low: str, high: str, *, covers_seeds: bool) -> str:
    """Print an interval so that one of items only is told from one of seeds and items.

    `ITEMS_NOTE` explains it.
    """
    return f"[{low}, {high}]" if covers_seeds else f"({low}, {high}){ITEMS_MARK}"


def standard_error(width: float) -> float:
    """Return the standard error that a 95 % interval of this width says."""
    from scipy.stats import norm

    return width / (2 * float(norm.ppf(0.5 + CONFIDENCE / 2)))


def wilson_interval(successes: int, n: int) -> Estimate:
    """Return a proportion with its Wilson score interval (scipy), without continuity correction.

    Raises:
        ValueError: n < 1, or successes outside 0..n.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return Estimate(
        value=successes / n,
        ci_low=float(interval.low),
        ci_high=float(interval.high),
        n=n,
        method=WILSON,
    )


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Both ends of an interval, fractions, and how it was made."""

    low: float
    high: float
    method: str


def bootstrap_intervals(
    values: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    seed: int,
    limits: Sequence[tuple[float, float]],
    num_resamples: int = NUM_RESAMPLES,
) -> list[Interval]:
    """Return percentile bootstrap intervals over the rows of `values`.

    Of one row, or of rows that all say the same, every resample gives the same score, and a
    bootstrap has no width: see `unvaried_interval`.

    Args:
        values: (n, k), one row an item; its columns are summed over a resample's rows.
        statistic: from column sums, (resamples, k), to m scores each, (resamples, m). Corpus
            metrics such as BLEU are functions of sums; a mean is a sum over n.
        seed: of the resamples, which are the same for all columns.
        limits: least and largest value of each of the m scores.
        num_resamples: samples of n rows, drawn with replacement.

    Returns:
        One for each of the m scores.
    """
    n = len(values)
    scores = [statistic(sums) for sums in resampled_sums(values, seed=seed, number=num_resamples)]
    resampled = np.concatenate(scores)  # (num_resamples, m)
    return [
        resampled_interval(column, n=n, limits=limit)
        for column, limit in zip(resampled.T, limits, strict=True)
    ]


def resampled_sums(values: Floats, *, seed: int, number: int = NUM_RESAMPLES) -> Iterator[Floats]:
    """Yield the column sums of samples of n rows, drawn with replacement, (resamples, k), in parts.

    Args:
        values: (n, k), one row an item.
        seed: of the samples, which are the same for all columns.
        number: of samples in all.
    """
    generator = np.random.default_rng(seed)
    n = len(values)
    for start in range(0, number, _RESAMPLES_AT_ONCE):
        size = min(_RESAMPLES_AT_ONCE, number - start)
        drawn = generator.integers(n, size=(size, n))
        drawn += n * np.arange(size)[:, None]
        times_drawn = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        yield times_drawn.astype(np.float64) @ values


def resampled_interval(scores: Floats, *, n: int, limits: tuple[float, float]) -> Interval:
    """Return the percentile interval of a score of resamples, (resamples,), of n items.

    Args:
        scores: of the resamples.
        limits: least and largest value that the score can have.
    """
    if float(np.ptp(scores)) <= _ROUNDING * (limits[1] - limits[0]):
        return unvaried_interval(float(scores[0]), n=n, limits=limits)
    low, high = percentiles(scores)
    return Interval(low=low, high=high, method=BOOTSTRAP)


def percentiles(scores: Floats) -> tuple[float, float]:
    """Return between which values 95 % of the scores of resamples, (resamples,), lie."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    return float(low), float(high)


def unvaried_interval(value: float, *, n: int, limits: tuple[float, float]) -> Interval:
    """Return an interval of a score that all of n items agree on, which a bootstrap cannot give.

    As many other items might say something else as Wilson's interval leaves open for none of n,
    z^2 / (n + z^2) of all, and each might say the least or the largest value. For an accuracy of 0
    or 1 this is Wilson's interval, for the difference of two equal accuracies Tango's.

    Args:
        limits: least and largest value that the score can have.
    """
    open_share = wilson_interval(0, n).ci_high
    low = value - open_share * (value - limits[0])
    high = value + open_share * (limits[1] - value)
    return Interval(low=low, high=high, method=UNVARIED)


def combine_seeds(estimates: Sequence[Estimate], others: Spread = UNKNOWN) -> Estimate:
    """Average runs that differ in their seed only and were scored on the same items.

    Two sources of uncertainty are combined, as if independent: which items were asked, and which
    seed was trained. Items are the same for all seeds, so averaging over seeds does not reduce
    their part; it is taken as the mean distance from a run's value to its interval's end, which
    keeps intervals near 0 % and 100 % lopsided (MOVER, Zou and Donner 2008). The seeds' part is
    the standard error of the mean, from the spread that `known_spread` takes. The quantile is
    Student's t with Satterthwaite's degrees of freedom: close to the normal one where items
    dominate, wide where few seeds do. The spread between seeds itself holds some noise of items, so
    the interval is on the safe side. It stays within the metric's range: not below 0, and for
    proportions not above 1.

    Where the spread is not known, as with one seed alone, the interval covers the items only: it
    is about these very trainings, and `method` says so.

    Args:
        estimates: of the seeds.
        others: spread between seeds of the study's other rows.

    Raises:
        ValueError: no estimates, or of different n.
    """
    if len({estimate.n for estimate in estimates}) != 1:
        raise ValueError("combine_seeds needs estimates, all over the same number of items")
    values = [estimate.value for estimate in estimates]
    mean = float(np.mean(values))
    low = float(np.mean([estimate.ci_low for estimate in estimates]))
    high = float(np.mean([estimate.ci_high for estimate in estimates]))
    spread = known_spread(spread_of(values), others)
    if spread is None:
        return Estimate(value=mean, ci_low=low, ci_high=high, n=estimates[0].n, method=ITEMS_ONLY)
    variance, degrees = spread.variance / len(values), spread.degrees
    largest = 1.0 if all(estimate.method == WILSON for estimate in estimates) else math.inf
    return Estimate(
        value=mean,
        ci_low=max(0.0, mean - combined_half_width(mean - low, variance, degrees=degrees)),
        ci_high=min(largest, mean + combined_half_width(high - mean, variance, degrees=degrees)),
        n=estimates[0].n,
        method=POOLED_SEEDS if others.degrees else SEEDS_AND_ITEMS,
        covers_seeds=True,
    )


def combined_half_width(item_half_width: float, seed_variance: float, *, degrees: float) -> float:
    """Return the half-width from both variances, with Satterthwaite's degrees of freedom.

    Args:
        item_half_width: of the 95 % interval that the items alone give.
        seed_variance: of the mean over seeds.
        degrees: of freedom of `seed_variance`.
    """
    from scipy.stats import norm, t

    quantile = 0.5 + CONFIDENCE / 2
    if seed_variance == 0:
        return item_half_width
    variance = (item_half_width / float(norm.ppf(quantile))) ** 2 + seed_variance
    effective_degrees = degrees * (variance / seed_variance) ** 2
    return float(t.ppf(quantile, effective_degrees)) * math.sqrt(variance)
