"""The rule by which tables say whether a reported number was reproduced.

A reported number is, as far as anyone can know, the score of one training. It can differ from what
is measured for two reasons that are no failure of the method: other questions could have been
asked, and another training (seed) gives another score. So two intervals around the measured mean
decide:

- the interval of the mean, which combines the spread over seeds with the sampling of questions
  (`combine_seeds`, the interval that tables print);
- the interval in which one further training on the same questions would lie: mean +- t s
  sqrt(1 + 1 / S) with the standard deviation s between seeds, S of them, and Student's t of its
  degrees of freedom, both from `known_spread`: the row's own and that of the study's other rows.
  Where the spread is not known, as with one seed alone, nothing lies outside of it.

Inside the first: "reproduced". Outside of both: "below" or "above", which tables print as "not
reproduced". Between them: "cannot tell", because another seed could give that number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ademvl.statistics.intervals import CONFIDENCE, Estimate, combine_seeds
from ademvl.statistics.seed_spread import UNKNOWN, Spread, known_spread, spread_of

Outcome = Literal["reproduced", "below", "above", "cannot tell"]
METHOD = (
    "reproduced: inside the 95 % interval of the mean over seeds and questions; "
    "not reproduced: outside of it and of where one more seed would lie (95 %, Student's t); "
    "cannot tell: in between"
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a measurement says about a reported number.

    Attributes:
        outcome: of the rule.
        difference: measured mean minus reported number, a fraction.
        ci_low, ci_high: of the difference, from the interval of the measured mean.
        num_seeds: that were measured.
    """

    outcome: Outcome
    difference: float
    ci_low: float
    ci_high: float
    num_seeds: int


def verdict(
    estimates: Sequence[Estimate],
    reported: float,
    *,
    half_unit: float = 0.0,
    others: Spread = UNKNOWN,
) -> Verdict:
    """Judge a reported number by the module's rule.

    The share of reproductions that are called "below" or "above" though nothing but chance made
    them differ stays at or near 5 %; docs/statistics.md has the simulated rates.

    Args:
        estimates: scores of the seeds, all on the same items.
        reported: the number of others, a fraction.
        half_unit: half of the last digit that was printed, a fraction: a number printed as 94.0
            may have been anything within 0.0005.
        others: spread between seeds of the study's other rows.

    Raises:
        ValueError: no estimates, or of different n.
    """
    combined = combine_seeds(estimates, others)
    difference = combined.value - reported
    # What of the difference the printed number's rounding leaves over.
    distance = max(0.0, abs(difference) - half_unit)
    half_width = combined.value - combined.ci_low
    if difference < 0:
        half_width = combined.ci_high - combined.value
    values = [estimate.value for estimate in estimates]
    outcome: Outcome = "below" if difference < 0 else "above"
    if distance <= half_width:
        outcome = "reproduced"
    elif distance <= further_seed_half_width(values, others):
        outcome = "cannot tell"
    return Verdict(
        outcome=outcome,
        difference=difference,
        ci_low=combined.ci_low - reported,
        ci_high=combined.ci_high - reported,
        num_seeds=len(values),
    )


def further_seed_half_width(values: Sequence[float], others: Spread = UNKNOWN) -> float:
    """Return how far from the mean of seeds one further seed lies at most, in 95 % of cases.

    Infinite where the spread between seeds is not known.

    Args:
        values: scores of the seeds.
        others: spread between seeds of the study's other rows.
    """
    from scipy.stats import t

    spread = known_spread(spread_of(values), others)
    if spread is None:
        return math.inf
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, spread.degrees))
    return quantile * math.sqrt(spread.variance * (1 + 1 / len(values)))
