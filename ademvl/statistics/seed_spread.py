"""How much trainings differ that differ in their seed alone: of one row, and pooled over others.

Two or three seeds that happen to agree look like a training without scatter. So a row's own spread
never stands alone where other rows of the study tell more: the larger of both is taken, with the
degrees of freedom of the one that has more. That is on the safe side in two ways. It is at least
as large as either, so that Student's t with that one's degrees of freedom holds; and where the
row's seeds came out close by luck, the others' spread, which knows nothing of that, is what counts.
It supposes that rows scatter alike: a row that scatters more than the others, with few seeds, may
still look too certain (docs/statistics.md has how often).

With fewer than 4 degrees of freedom, own and others' together, a spread counts as not known. All
variances are of fractions.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MIN_DEGREES = 4
"""Below, a quarter of the rows whose seeds agree by luck would hide more than they tell."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Variance between seeds of a training, and the degrees of freedom that it is known with."""

    variance: float
    degrees: int


UNKNOWN = Spread(variance=0.0, degrees=0)


@dataclass(frozen=True, kw_only=True)
class SeedRow:
    """A row's scores by seed, as far as pooling has to know them.

    Attributes:
        kind: only rows of the same kind are pooled: same task, data and split.
        adapters: name of the run whose adapters these are; evaluations of the same ones scatter
            together and count once.
        scores: of the seeds, by column; fractions.
    """

    kind: Hashable
    adapters: str
    scores: Mapping[str, Sequence[float]]


def spread_of(values: Sequence[float]) -> Spread:
    """Return the spread of a row's seeds; unknown with fewer than two."""
    if len(values) < 2:
        return UNKNOWN
    return Spread(variance=float(np.var(values, ddof=1)), degrees=len(values) - 1)


def pool(spreads: Iterable[Spread]) -> Spread:
    """Return the mean of variances, weighted by their degrees of freedom."""
    found = [spread for spread in spreads if spread.degrees]
    degrees = sum(spread.degrees for spread in found)
    if not degrees:
        return UNKNOWN
    total = sum(spread.degrees * spread.variance for spread in found)
    return Spread(variance=total / degrees, degrees=degrees)


def spread_of_others(rows: Sequence[SeedRow], column: str, *without: SeedRow) -> Spread:
    """Pool the spread of a study's rows beside some of its rows, of the same kind as those.

    Args:
        column: of the scores.
        without: rows that are left out, with all evaluations of their adapters; at least one.
    """
    left_out = {row.adapters for row in without}
    pooled: dict[str, Spread] = {}
    for row in rows:
        if row.kind == without[0].kind and row.adapters not in left_out | set(pooled):
            spread = spread_of(row.scores.get(column, ()))
            if spread.degrees:
                pooled[row.adapters] = spread
    return pool(pooled.values())


def known_spread(own: Spread, others: Spread) -> Spread | None:
    """Return the spread that intervals of a row are made with; None where it is not known.

    See the module's docstring for the rule.
    """
    if own.degrees + others.degrees < MIN_DEGREES:
        return None
    return Spread(
        variance=max(own.variance, others.variance), degrees=max(own.degrees, others.degrees)
    )
