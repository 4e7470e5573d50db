"""Which of several runs is best, and how sure that is.

Both that could have been otherwise is drawn, for all runs at once. Questions are resampled, the
same for every run, so that what they have in common takes no part. The mean over seeds is moved by
Student's t: the variance between seeds is pooled over all runs, as few seeds of one run say little,
and is drawn, too (scaled inverse chi-squared), common to all runs of a draw. How often a run comes
out first is how far the order can be trusted: two runs that nobody can tell apart share the draws.

With fewer than `MIN_DEGREES` degrees of freedom the spread between seeds is not known, and there is
no ranking.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ademvl.statistics.intervals import CONFIDENCE, NUM_RESAMPLES, Floats, resampled_sums
from ademvl.statistics.paired_proportions import Correct
from ademvl.statistics.seed_spread import MIN_DEGREES, pool, spread_of

METHOD = (
    f"{NUM_RESAMPLES:,} draws of all rows at once: questions resampled, the same for all; means "
    "over seeds by Student's t with the spread pooled over the rows"
)


@dataclass(frozen=True, kw_only=True)
class Rank:
    """The place of one run among several.

    Attributes:
        first: fraction of the draws in which it has the highest score; equal ones share a draw.
        place: by its score as measured, from 1.
        low, high: places between which 95 % of the draws lie.
    """

    first: float
    place: int
    low: int
    high: int


def draw_scores(correct: Sequence[Correct], *, seed: int) -> Floats | None:
    """Draw the scores that runs might have had; None where the spread of seeds is not known.

    Args:
        correct: of each run, whether an answer is right, (seeds, n), the same questions in the same
            order.
        seed: of the draws.

    Returns:
        Fractions, (draws, runs).
    """
    spread = pool(spread_of(run.mean(axis=1)) for run in correct)
    if spread.degrees < MIN_DEGREES:
        return None
    rates = np.stack([run.mean(axis=0) for run in correct], axis=1)  # (n, runs)
    asked = np.concatenate(list(resampled_sums(rates, seed=seed))) / len(rates)
    generator = np.random.default_rng([seed, 1])
    variances = spread.variance / np.array([len(run) for run in correct])
    chance = generator.chisquare(spread.degrees, size=(len(asked), 1)) / spread.degrees
    trained: Floats = generator.normal(size=asked.shape) * np.sqrt(variances / chance)
    return asked + trained


def rank(scores: Sequence[float], draws: Floats) -> list[Rank]:
    """Return the place of each run among these.

    Args:
        scores: of the runs as measured.
        draws: of them, (draws, runs).
    """
    best = draws == draws.max(axis=1, keepdims=True)
    first = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    places = 1 + (draws[:, None, :] > draws[:, :, None]).sum(axis=2)  # (draws, runs)
    tail = (1 - CONFIDENCE) / 2
    lows, highs = np.quantile(places, [tail, 1 - tail], axis=0, method="inverted_cdf")
    return [
        Rank(
            first=float(first[run]),
            place=1 + sum(other > score for other in scores),
            low=int(lows[run]),
            high=int(highs[run]),
        )
        for run, score in enumerate(scores)
    ]
