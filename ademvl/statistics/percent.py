"""Scores as they are shown: fractions inside of the package, percent or points outside of it.

What is CIDEr or a sum of points is multiplied by 100 all the same, as published tables do.
"""

from ademvl.statistics.intervals import Estimate, bracketed
from ademvl.statistics.paired import Difference


def in_percent(found: Estimate | Difference) -> tuple[float, float, float]:
    """Return the number, and the lower and the upper end of its interval."""
    return 100 * found.value, 100 * found.ci_low, 100 * found.ci_high


def printed(found: Estimate | Difference, *, decimals: int = 2) -> tuple[str, str]:
    """Return the number as text, a difference with its sign, and the interval in brackets."""
    sign = "+" if isinstance(found, Difference) else ""
    value, low, high = (f"{number:{sign}.{decimals}f}" for number in in_percent(found))
    return value, bracketed(low, high, covers_seeds=found.covers_seeds)
