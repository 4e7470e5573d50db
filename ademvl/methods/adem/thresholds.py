"""Which image tokens a text token keeps where that is learned, or where a sparse normaliser tells.

- Learned is gamma itself, the share that is dropped: of a layer, or of a text token in a layer. It
  has no unit, whatever the scores are, and compares with the fixed one. A threshold among the
  scores would have to follow their size, which differs by layer and grows in training.
- What is dropped is settled by ranks, so gamma's gradient is smoothed over ranks, too: a sigmoid of
  how many tokens a score lies above the threshold. No gradient goes through ranks or into the text
  states that gamma is computed from, as none goes through the threshold of the fixed rule.
- Evaluation drops by the fixed rule at the gamma of each text token.
"""

import math

import torch
from torch import Tensor, nn

from ademvl.methods.adem.rule import rank_values
from ademvl.methods.adem.settings import DropBy, Relaxation, SparseNormalizer

_DECIMALS = 6  # of gamma as it is used
_TINY = 1e-6  # beside the mean square of a text state


class LearnedThreshold(nn.Module):
    """The share of image tokens that is dropped in each layer, or for each text token there.

    gamma = sigmoid(logit(first) + offset_l + mean_j(direction_j x_j) / rms(x)), x being the text
    state; the last term for each text token only. With zeros, as they start, it is `first`.

    Args:
        first: gamma to begin with, 0 < first < 1.
        layers: L, of the decoder.
        width: d of the text states, for a gamma of each text token; None for one of each layer.
    """

    def __init__(self, *, first: float, layers: int, width: int | None) -> None:
        super().__init__()
        self._first = math.log(first / (1 - first))
        self.offsets = nn.Parameter(torch.empty(layers))
        self.direction = None if width is None else nn.Parameter(torch.empty(width))

    def forward(self, hidden_states: Tensor, layer: int) -> Tensor:
        """Return gamma of each text token in fp32, (B, T) of (B, T, d), with its gradient."""
        logits = self._first + self.offsets[layer].expand(hidden_states.shape[:2])
        if self.direction is not None:
            states = hidden_states.detach().float()
            size = (states.square().mean(dim=-1) + _TINY).sqrt()  # (B, T)
            # No matrix product, which autocast would compute in half precision.
            logits = logits + (states * self.direction).mean(dim=-1) / size
        return torch.sigmoid(logits)


def settled(gamma: Tensor) -> Tensor:
    """Return gamma as it is used: in float64, rounded to six decimals, and below 1.

    What is printed is then what was used, and an offset of zero is exactly the fixed gamma.
    """
    return gamma.detach().double().round(decimals=_DECIMALS).clamp(max=1 - 10.0**-_DECIMALS)


def is_low(scores: Tensor, gamma: Tensor, *, by: DropBy) -> Tensor:
    """Return which scores the fixed rule drops, at a gamma for each text token.

    Args:
        scores: (..., N).
        gamma: settled, (...).
        by: see `drop_low_scores`.

    Returns:
        Bool, (..., N).
    """
    ranked = rank_values(scores, by)
    index = (gamma * scores.shape[-1]).long()[..., None]
    return ranked < ranked.sort(dim=-1).values.gather(-1, index)


def drop_at(scores: Tensor, gamma: Tensor, *, by: DropBy) -> Tensor:
    """Zero the scores that `is_low` tells."""
    return scores.masked_fill(is_low(scores, gamma, by=by), 0.0)


def drop_relaxed(
    scores: Tensor, gamma: Tensor, *, temperature: float, relaxation: Relaxation, by: DropBy
) -> Tensor:
    """Drop low scores in a way that gives gamma a gradient.

    A score that r other ones do not exceed is weighed by
    w = sigmoid((r + 1 - gamma N) / (temperature N)), which turns into the fixed rule as the
    temperature falls. `sigmoid` multiplies by w. `straight_through` multiplies by 1 or 0 as the
    fixed rule does, ties with the threshold included, and takes the gradient of w for gamma (Bengio
    et al., arXiv 1308.3432).

    Args:
        scores: (B, T, N).
        gamma: (B, T), with gradient.
        temperature: more than 0, as a fraction of N.
        relaxation: see above.
        by: see `drop_low_scores`.

    Returns:
        Like `scores`.
    """
    ranked = rank_values(scores, by).float()
    ordered = ranked.sort(dim=-1).values
    rank = torch.searchsorted(ordered, ranked, right=True) - 1  # (B, T, N)
    num_visual = scores.shape[-1]
    above = rank + 1 - num_visual * gamma[..., None]
    weights = torch.sigmoid(above / (temperature * num_visual))
    if relaxation == "straight_through":
        index = (settled(gamma) * num_visual).long()[..., None]
        weights = (rank >= index) + (weights - weights.detach())
    return scores * weights.to(scores.dtype)


def sparse_weights(scores: Tensor, normalizer: SparseNormalizer) -> Tensor:
    """Return weights of image tokens that sum to 1 for each text token, many of them exactly 0.

    Sparsemax (arXiv 1602.02068) or 1.5-entmax (arXiv 1905.05702), computed in fp32 by the package
    entmax. Where a text token has a score that is not finite, its weights are nan: the package
    would ask for an element that is not there.

    Args:
        scores: (..., N).
        normalizer: which of the two.

    Returns:
        Like `scores`.
    """
    from entmax import entmax15, sparsemax

    is_finite = scores.isfinite().all(dim=-1, keepdim=True)
    normalize = sparsemax if normalizer == "sparsemax" else entmax15
    weights = normalize(scores.float().masked_fill(~is_finite, 0.0), dim=-1)
    return weights.masked_fill(~is_finite, math.nan).to(scores.dtype)


class KeptPenalty:
    """What a training pays for keeping more or fewer image tokens than it should.

    weight * (kept - target)^2 for each item, kept being the mean of 1 - gamma over layers and text
    tokens: these may differ, and no item's penalty depends on others.

    Args:
        target: fraction.
        weight: factor.
    """

    def __init__(self, *, target: float, weight: float) -> None:
        self._target = target
        self._weight = weight
        self._gammas: dict[int, Tensor] = {}

    def note(self, gamma: Tensor, layer: int) -> None:
        """Take in a layer's gamma, (B, T); of a recomputed layer it is known already."""
        self._gammas.setdefault(layer, gamma)

    def __call__(self, lengths: Tensor) -> Tensor:
        """Return the penalty of each item, (B,), of rows of these lengths, (B,)."""
        gamma = torch.stack(list(self._gammas.values())).mean(dim=0)  # (B, T)
        lengths = lengths.to(gamma.device)
        is_text = torch.arange(gamma.shape[1], device=gamma.device) < lengths[:, None]
        kept = ((1 - gamma) * is_text).sum(dim=1) / lengths
        return self._weight * (kept - self._target).square()
