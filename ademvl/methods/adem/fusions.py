"""The fusion rules, by which text states see an image: a table with one entry for each.

Settings and plans read it, so torch is imported only where a rule is made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ademvl.methods.adem.keeping import Keeping
    from ademvl.methods.adem.settings import AdemSettings
    from ademvl.methods.fusing import Rule

Fusion = Literal["adem", "memvp", "none"]


@dataclass(frozen=True, kw_only=True)
class FusionRule:
    """A fusion rule, and what the settings may ask of it.

    Attributes:
        make: makes the rule of a pass from the settings, from what is kept of the scores, and from
            the rows' seeds of dropout, which are None in evaluation.
        maps_keys: whether `phi` maps keys and queries; else the rule sees keys as they are.
        has_scores: whether its image tokens have scores, which thresholds and dropout leave out
            and fusion maps draw.
        kept_numbers: that training keeps for the gradient of each pair of text token and image
            token, beside what was dropped of scores; plans of memory count them.
    """

    make: "Callable[[AdemSettings, Keeping, Sequence[int] | None], Rule]"
    maps_keys: bool
    has_scores: bool
    kept_numbers: int


def _adem(settings: "AdemSettings", keeping: "Keeping", seeds: Sequence[int] | None) -> "Rule":
    from ademvl.methods.adem.rules_of_pass import AdemRule

    return AdemRule(settings, keeping, seeds)


def _memvp(settings: "AdemSettings", keeping: "Keeping", seeds: Sequence[int] | None) -> "Rule":
    from ademvl.methods.adem.rules_of_pass import MemvpRule

    return MemvpRule(settings.alpha, seeds)


FUSIONS: Mapping[str, FusionRule] = {
    "adem": FusionRule(make=_adem, maps_keys=True, has_scores=True, kept_numbers=1),
    # Of MemVP's: silu's input and output, and what dropout keeps.
    "memvp": FusionRule(make=_memvp, maps_keys=False, has_scores=False, kept_numbers=3),
}
"""By the value of `method.fusion`; with `none` there is no rule."""


def fusion_rule(name: str) -> FusionRule | None:
    """Return the rule of a name; None for `none`.

    Raises:
        ValueError: there is no such rule.
    """
    if name != "none" and name not in FUSIONS:
        raise ValueError(f"no fusion rule {name!r}; there are {', '.join(FUSIONS)} and none")
    return FUSIONS.get(name)
