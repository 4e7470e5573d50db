"""The rule by which a difference of two runs is called an effect: seen, not there, or neither.

Trainings differ by chance. So with one seed on either side nothing is seen, however far its
interval lies from 0: it holds for these two adapters and says nothing about settings. The same
goes for seeds so few that nobody knows their spread. Else

- seen: the paired interval over seeds and items leaves out 0;
- not there: it lies within `MARGIN` of 0 on both sides, so that what there is would not matter;
- cannot tell: in between.
"""

from dataclasses import dataclass
from typing import Literal

from ademvl.statistics.paired import Difference
from ademvl.statistics.seed_spread import MIN_DEGREES

Outcome = Literal["seen", "not there", "cannot tell"]
MARGIN = 0.01
"""A fraction: 1 point."""


@dataclass(frozen=True, kw_only=True)
class EffectVerdict:
    """What can be said of an effect, and where nothing can, why."""

    outcome: Outcome
    reason: str = ""

    @property
    def words(self) -> str:
        """The verdict as printed."""
        if self.outcome == "not there":
            return f"not there (within {100 * MARGIN:g} point)"
        return f"cannot tell, {self.reason}" if self.reason else self.outcome


def judge_effect(difference: Difference) -> EffectVerdict:
    """Judge a difference by the module's rule."""
    if min(difference.num_seeds) < 2:
        return EffectVerdict(outcome="cannot tell", reason="one seed")
    if not difference.is_spread_known:
        return EffectVerdict(
            outcome="cannot tell",
            reason=f"too few seeds ({difference.seed_degrees} of {MIN_DEGREES} degrees of freedom)",
        )
    low, high = difference.ci_low, difference.ci_high
    if not low <= 0 <= high:
        return EffectVerdict(outcome="seen")
    if low >= -MARGIN and high <= MARGIN:
        return EffectVerdict(outcome="not there")
    return EffectVerdict(
        outcome="cannot tell", reason=f"may be none, or more than {100 * MARGIN:g} point"
    )
