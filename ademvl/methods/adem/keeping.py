"""Which image tokens a text token keeps: by a fixed share, a learned one, or a sparse normaliser.

One class for each kind of `method.threshold`, with what training and evaluation do with scores, and
what counts in evaluation, which fusion maps draw.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from ademvl.methods.adem.rule import drop_low_scores, keep_mask
from ademvl.methods.adem.settings import DropBy, Relaxation, SparseNormalizer
from ademvl.methods.adem.thresholds import (
    KeptPenalty,
    LearnedThreshold,
    drop_at,
    drop_relaxed,
    is_low,
    settled,
    sparse_weights,
)


class Keeping(Protocol):
    """What is kept of the scores of a layer, (B, T, N), given the states of its text, (B, T, d)."""

    def select(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """Return the scores, or weights in place of them, with zeros for what is dropped."""

    def is_kept(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """Return which scores count in evaluation, bool, (B, T, N)."""


@dataclass(frozen=True)
class SparseKeeping:
    """What gets a weight from a sparse normaliser."""

    normalizer: SparseNormalizer

    def select(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """See `Keeping`."""
        return sparse_weights(scores, self.normalizer)

    def is_kept(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """See `Keeping`."""
        return sparse_weights(scores, self.normalizer) > 0


@dataclass(frozen=True)
class FixedKeeping:
    """All but a share that the settings give.

    Attributes:
        gamma: share that is dropped now.
        gamma_in_evaluation: share that is dropped in evaluation.
        by: see `drop_low_scores`.
    """

    gamma: float
    gamma_in_evaluation: float
    by: DropBy

    def select(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """See `Keeping`."""
        return drop_low_scores(scores, gamma=self.gamma, by=self.by)

    def is_kept(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """See `Keeping`."""
        return keep_mask(scores, gamma=self.gamma_in_evaluation, by=self.by)


class Relaxed(NamedTuple):
    """How a threshold is softened, so that it gets a gradient; see `drop_relaxed`."""

    temperature: float
    relaxation: Relaxation


@dataclass(frozen=True)
class LearnedKeeping:
    """All but a share that is learned for each layer or text token.

    Attributes:
        threshold: gives the share.
        by: see `drop_low_scores`.
        relaxed: in training; None in evaluation.
        penalty: is told the shares of training; None where they cost nothing.
    """

    threshold: LearnedThreshold
    by: DropBy
    relaxed: Relaxed | None
    penalty: KeptPenalty | None

    def select(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """See `Keeping`."""
        gamma = self.threshold(queries, layer)  # (B, T)
        if self.relaxed is None:
            return drop_at(scores, settled(gamma), by=self.by)
        if self.penalty is not None:
            self.penalty.note(gamma, layer)
        temperature, relaxation = self.relaxed
        return drop_relaxed(
            scores, gamma, temperature=temperature, relaxation=relaxation, by=self.by
        )

    def is_kept(self, scores: Tensor, queries: Tensor, layer: int) -> Tensor:
        """See `Keeping`."""
        return ~is_low(scores, settled(self.threshold(queries, layer)), by=self.by)
