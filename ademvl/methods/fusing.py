"""A pass that reads text states at one position of a layer and adds to them at the same or another.

ADEM-VL and MemVP are of this kind: keys and values made of the image, the same in every layer.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ademvl.methods.sites import Pass, Position


class Rule(Protocol):
    """How text states see keys and values."""

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, *, target: Tensor, layer: int
    ) -> Tensor:
        """Return `target`, (B, T, d), with what was fused added.

        Args:
            queries: text states, (B, T, d).
            keys: (B, N, d).
            values: (B, N, d).
            target: what is added to.
            layer: counted from 0.
        """


class FusingPass(Pass):
    """Fuses keys and values into every layer by a rule.

    Args:
        keys, values: (B, N, d), in the dtype in which the rule computes.
        rule: of the method.
        query_from, add_to: positions, the second not before the first.
        with_image: see `Pass`.
        penalty: see `Pass.penalty`; None for none.
    """

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        rule: Rule,
        *,
        query_from: Position,
        add_to: Position,
        with_image: Tensor | None = None,
        penalty: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.keys = keys
        self.values = values
        self.rule = rule
        self.query_from = query_from
        self.add_to = add_to
        self.with_image = with_image
        self._penalty = penalty
        self._queries: dict[int, Tensor] = {}

    def visit(self, position: Position, layer: int, states: Tensor) -> Tensor:
        """Keep `states` as queries, or add to them, or both."""
        if position == self.query_from:
            self._queries[layer] = states
        if position == self.add_to:
            queries = self._queries.pop(layer)
            return self.rule(queries, self.keys, self.values, target=states, layer=layer)
        return states

    def penalty(self, lengths: Tensor) -> Tensor | None:
        """Return what the method's rule costs each row."""
        return None if self._penalty is None else self._penalty(lengths)

    def repeated(self, times: int) -> "FusingPass":
        """Repeat keys and values of each row side by side."""
        if times == 1:
            return self
        keys, values = (part.repeat_interleave(times, dim=0) for part in (self.keys, self.values))
        return self._of(keys, values, self.rule)

    def restarted(self) -> "FusingPass":
        """Return a pass with the same keys and values that has read no queries yet."""
        return self._of(self.keys, self.values, self.rule)

    def with_rule(self, rule: Rule) -> "FusingPass":
        """Return a pass of the same images that fuses by another rule."""
        return self._of(self.keys, self.values, rule)

    def _of(self, keys: Tensor, values: Tensor, rule: Rule) -> "FusingPass":
        return FusingPass(
            keys,
            values,
            rule,
            query_from=self.query_from,
            add_to=self.add_to,
            with_image=self.with_image,
            penalty=self._penalty,
        )


def add_attended(target: Tensor, scores: Tensor, values: Tensor, *, alpha: float) -> Tensor:
    """Return target + alpha * scores values.

    Args:
        target: (B, T, d).
        scores: (B, T, N).
        values: (B, N, d), of the dtype of `scores`.

    Returns:
        (B, T, d), dtype of `target`.
    """
    if target.dtype == values.dtype:
        return torch.baddbmm(target, scores, values, alpha=alpha)  # (B, T, d)
    return target + alpha * torch.bmm(scores, values).to(target.dtype)  # (B, T, d)
