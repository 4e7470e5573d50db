"""Refuses what a model computed where it is no number: its answers would look like any others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ademvl.errors import WeightsError, list_findings

if TYPE_CHECKING:
    from torch import Tensor

_REMEDY = (
    "Nothing is scored with these. The adapter has diverged, or the precision is too narrow: train "
    "again with a lower optimization.base_lr or a longer warm-up, or take backbones.precision bf16 "
    "or fp32."
)


def refuse_not_finite(item_ids: Sequence[str], is_finite: "Tensor", *, what: str) -> None:
    """Make sure that all items have finite numbers.

    Args:
        item_ids: of a batch.
        is_finite: for each of them, (B,) bool.
        what: the numbers are, in the plural.

    Raises:
        WeightsError: lists the items that have others.
    """
    if bool(is_finite.all()):
        return
    concerned = zip(item_ids, is_finite.tolist(), strict=True)
    findings = [f"item {item_id}" for item_id, finite in concerned if not finite]
    headline = f"{what} are not finite (nan or infinite); items concerned"
    raise WeightsError(list_findings(headline, findings, _REMEDY))
