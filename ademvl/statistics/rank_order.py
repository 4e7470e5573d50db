"""How far two orders of the same rows agree: Kendall's tau-b, with an interval from draws.

Every row is drawn from the normal distribution whose 95 % are the row's printed interval, all rows
as if independent, and the draws' order is compared with the other numbers as they are. Draws add
noise to noise: the interval leans towards 0, which is the safe side.
"""

from collections.abc import Sequence

import numpy as np

from ademvl.statistics.intervals import NUM_RESAMPLES, Floats, Interval, percentiles, standard_error

METHOD = (
    f"95 % of {NUM_RESAMPLES:,} draws of all rows from normal distributions as wide as their "
    "intervals over seeds and questions"
)


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's tau-b; nan where all values of a side are equal."""
    return float(kendall_taus(np.array([first]), np.array(second))[0])


def kendall_interval(
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    second: Sequence[float],
    *,
    seed: int,
) -> Interval:
    """Return the interval of tau-b from what is known of the first order's values.

    Args:
        values: of the rows, as measured.
        intervals: their 95 % intervals, which cover seeds and items.
        second: the other order's values, taken as they are.
        seed: of the draws.
    """
    errors = np.array([standard_error(high - low) for low, high in intervals])
    drawn = np.random.default_rng(seed).normal(size=(NUM_RESAMPLES, len(values)))
    low, high = percentiles(kendall_taus(np.array(values) + drawn * errors, np.array(second)))
    return Interval(low=low, high=high, method=METHOD)


def kendall_taus(first: Floats, second: Floats) -> Floats:
    """Return tau-b of each of the first's rows, (rows, n), with the second, (n,): (rows,)."""
    left, right = np.triu_indices(first.shape[1], 1)
    ours = np.sign(first[:, left] - first[:, right])
    theirs = np.sign(second[left] - second[right])
    untied = np.sqrt((ours != 0).sum(axis=1) * (theirs != 0).sum())
    with np.errstate(invalid="ignore"):
        found: Floats = (ours * theirs).sum(axis=1) / untied
    return found
