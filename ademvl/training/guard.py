"""Steps without a finite loss or gradient: left out, counted, and an end when there are too many.

With loss scaling (fp16) a gradient that overflows is nothing unusual: the scale is halved and the
step left out. These steps are counted apart. What overflows at a scale of 1 is not finite by
itself.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ademvl.errors import MAX_LISTED, TrainingError, list_findings

_log = logging.getLogger(__name__)

_REMEDY = (
    "Lower optimization.base_lr or lengthen the warm-up, choose another backbones.precision, or "
    "look at the items."
)

Outcome = Literal["updated", "overflow", "not_finite"]
"""Of a step: the parameters moved, or it was left out because of the loss scale, or otherwise."""


class NotFiniteError(TrainingError):
    """Too many steps in a row had no finite loss or gradient."""


class NonFiniteGuard:
    """Counts the steps that were left out; all processes count the same.

    Args:
        limit: steps in a row without a finite loss or gradient that end the training, >= 1.
        record: what `to_record` gave at the state to go on from.
    """

    def __init__(self, *, limit: int, record: Mapping[str, Any] | None = None) -> None:
        self._limit = limit
        found = record or {}
        self.skipped_steps = int(found.get("skipped_steps", 0))
        self.overflow_steps = int(found.get("overflow_steps", 0))
        self._in_a_row = int(found.get("in_a_row", 0))
        self._item_ids: list[str] = list(found.get("item_ids", []))

    def to_record(self) -> dict[str, Any]:
        """Return the counts as plain JSON."""
        return {
            "skipped_steps": self.skipped_steps,
            "overflow_steps": self.overflow_steps,
            "in_a_row": self._in_a_row,
            "item_ids": self._item_ids,
        }

    def note(self, outcome: Outcome) -> None:
        """Count a step that was carried out, or left out because of the loss scale."""
        if outcome == "overflow":
            self.overflow_steps += 1
        else:
            self._in_a_row, self._item_ids = 0, []

    def note_not_finite(self, step: int, what: str, item_ids: Sequence[str]) -> None:
        """Count a step that was left out because `what` was not finite.

        Args:
            step: number of the step, from 1.
            what: loss or gradient.

        Raises:
            NotFiniteError: it is one too many in a row; the parameters are those before them all.
        """
        self._item_ids += [item_id for item_id in item_ids if item_id not in self._item_ids]
        if self._in_a_row + 1 >= self._limit:
            raise NotFiniteError(self._report(step, what))
        self.skipped_steps += 1
        self._in_a_row += 1
        shown = ", ".join(item_ids[:MAX_LISTED])
        more = f" and {len(item_ids) - MAX_LISTED} more" if len(item_ids) > MAX_LISTED else ""
        _log.warning(
            "step %d left out: the %s is not finite; items concerned: %s%s", step, what, shown, more
        )

    def refuse_end(self, num_steps: int) -> None:
        """Make sure that the adapter after the last step is one to be used.

        Raises:
            NotFiniteError: the last step was left out as not finite, or all steps were left out.
        """
        remedy = f"{_REMEDY} The same command then trains anew. No adapter is written."
        if self._in_a_row:
            headline = (
                f"the last {self._in_a_row} of {num_steps} steps were left out, as loss or "
                "gradient was not finite, so that the adapter has diverged; items concerned"
            )
            findings = [f"item {item_id}" for item_id in self._item_ids]
            raise NotFiniteError(list_findings(headline, findings, remedy))
        if self.skipped_steps + self.overflow_steps >= num_steps:
            raise NotFiniteError(
                f"all {num_steps} steps were left out, as the gradient was not finite or too large "
                f"for the loss scale of fp16: the adapter was never updated. {remedy}"
            )

    def _report(self, step: int, what: str) -> str:
        first = step - self._in_a_row
        steps = f"step {step}" if first == step else f"steps {first} to {step}"
        return list_findings(
            f"{steps}: the {what} is not finite; items concerned",
            [f"item {item_id}" for item_id in self._item_ids],
            f"{_REMEDY} Nothing of these steps entered the adapter. "
            "optimization.max_nonfinite_steps sets how many in a row are left out.",
        )
