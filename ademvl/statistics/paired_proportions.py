"""The difference of two accuracies on the same questions, with an interval that keeps its width.

A bootstrap of pairs that all agree, or of one pair, has no width, and neither have Wald's interval
and, at 50 %, Newcombe's method 10. Tango's score interval (Stat Med 17, 1998, p. 891) has: n pairs
that agree give +- z^2 / (n + z^2), as Wilson's gives for none of n. All values are fractions.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ademvl.statistics.intervals import CONFIDENCE, Interval
from ademvl.statistics.paired import Difference, add_seeds
from ademvl.statistics.seed_spread import UNKNOWN, Spread

PAIRED_SCORE = "score interval of paired proportions (Tango 1998)"
_ROUNDING = 1e-12

Correct = NDArray[np.bool_]


def accuracy_difference(
    first: Correct,
    second: Correct,
    *,
    same_adapters: bool = False,
    others: Spread = UNKNOWN,
) -> Difference:
    """Compare two runs of one or several seeds on the same questions.

    The interval over questions is Tango's of the answers of a pair of seeds, averaged over pairs.
    The mean over seeds varies less from question to question than one seed does: as many more
    questions are taken to be there as its variance is smaller, at most as many times as there are
    seeds (design effect, Kish 1965). The spread of seeds is added as in `paired_differences`.

    Args:
        first: whether an answer is right, (seeds, n).
        second: the same of the other run, the same questions in the same order.
        same_adapters: the runs' seeds are, in this order, evaluations of the same adapters.
        others: spread between seeds of the study's other rows.
    """
    num_seeds, n = max(len(first), len(second)), first.shape[1]
    rates = first.mean(axis=0), second.mean(axis=0)  # (n,) each
    gained = rates[0] - rates[1]
    if same_adapters:
        only_first, only_second = (first & ~second).mean(axis=0), (second & ~first).mean(axis=0)
    else:
        only_first, only_second = rates[0] * (1 - rates[1]), rates[1] * (1 - rates[0])
    counts = np.array([only_first.sum(), only_second.sum(), n])
    value, variance = float(gained.mean()), float(gained.var())
    variance_of_one = float((only_first + only_second).mean()) - value**2
    times = 1.0
    if variance_of_one > _ROUNDING:
        times = variance_of_one / max(variance, variance_of_one / num_seeds)
    low, high = paired_score_interval(*(times * counts))
    return add_seeds(
        value=value,
        items=Interval(low=low, high=high, method=PAIRED_SCORE),
        scores=(first.mean(axis=1), second.mean(axis=1)),
        n=n,
        same_adapters=same_adapters,
        largest=1.0,
        others=others,
    )


def paired_score_interval(only_first: float, only_second: float, n: float) -> tuple[float, float]:
    """Return Tango's interval of the difference of two proportions of the same n pairs.

    Args:
        only_first: pairs in which the first alone is a success; need not be a whole number.
        only_second: the same of the second.
        n: all pairs, > 0.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + CONFIDENCE / 2))
    found = (only_first - only_second) / n

    def beyond(difference: float, side: int) -> float:
        """Return how far `found` is beyond z standard errors, under an assumed difference."""
        reach = z * math.sqrt(n * _variance(difference, only_first, only_second, n))
        return n * (found - difference) * side - reach

    # Just beside `found`, as at agreement of all pairs the error there is zero, too.
    step = 1e-9
    low, high = -1.0, 1.0
    if found - step > low:
        low = float(brentq(beyond, low, found - step, args=(1,), xtol=1e-12))
    if found + step < high:
        high = float(brentq(beyond, found + step, high, args=(-1,), xtol=1e-12))
    return low, high


def _variance(difference: float, only_first: float, only_second: float, n: float) -> float:
    """Return that of one pair, with the likeliest share of `only_second` under a difference."""
    b = (2 * n - only_first + only_second) * difference - only_first - only_second
    c = -only_second * difference * (1 - difference)
    share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    return max(0.0, 2 * share + difference * (1 - difference))
