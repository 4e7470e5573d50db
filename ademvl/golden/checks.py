"""The verdict on one recomputed golden quantity, whatever its kind."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One compared quantity of a golden case.

    Attributes:
        case: letter and name of the case, e.g. `D_cls`.
        what: what was compared, e.g. `logits`.
        error: largest absolute difference; for exact strings and ids the number of differences.
        tolerance: largest error that passes; 0 for exact ones.
    """

    case: str
    what: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance; a NaN never is."""
        return self.error <= self.tolerance
