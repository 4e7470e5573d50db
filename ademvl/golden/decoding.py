"""Generates the rows of a golden case greedily: with a cache, alone, and without cache."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ademvl.data.collate import Batch, collate
from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.evaluation.generation import decoding_steps
from ademvl.model.vision_language import VisionLanguageModel


@dataclass(frozen=True)
class GreedyCall:
    """Rows that are continued together, with their images.

    Attributes:
        model: in evaluation mode.
        rows: tokenized prompts.
        pixel_index: place of each row's image in `pixels`, -1 without one.
        pixels: of all images of the set.
        slots: (B,), first place of each row's image vectors; None for where the rows have it.
    """

    model: VisionLanguageModel
    rows: Sequence[TokenizedExample]
    pixel_index: Sequence[int]
    pixels: Tensor
    slots: Tensor | None = None

    def cached(self, chosen: Sequence[int], num_steps: int) -> tuple[Tensor, Tensor]:
        """Generate some rows together: logits (steps, B, V) and next tokens (steps, B)."""
        batch, pixels = self.batch(chosen)
        with closing(decoding_steps(self.model, batch, pixels)) as steps:
            found = list(islice(steps, num_steps))
        return torch.stack([step[0] for step in found]), torch.stack([step[1] for step in found])

    def alone(self, num_steps: int) -> Tensor:
        """Generate each row by itself: logits (steps, B, V)."""
        each = [self.cached([row], num_steps)[0] for row in range(len(self.rows))]
        return torch.cat(each, dim=1)

    def uncached(self, next_tokens: Tensor) -> Tensor:
        """Compute each step anew from all tokens before it: logits (steps, B, V).

        Args:
            next_tokens: what each step chose, (steps, B).
        """
        logits = []
        for step in range(len(next_tokens)):
            batch, pixels = self.extended(next_tokens[:step])
            logits.append(self.model.next_token_logits(batch, pixels))
        return torch.stack(logits)

    def extended(self, next_tokens: Tensor) -> tuple[Batch, Tensor | None]:
        """Return all rows with tokens, (steps, B), behind them, and the pixels of their images."""
        longer = [
            _extended(row, next_tokens[:, number].numpy()) for number, row in enumerate(self.rows)
        ]
        return replace(self, rows=longer).batch(range(len(longer)))

    def batch(self, chosen: Sequence[int]) -> tuple[Batch, Tensor | None]:
        """Return some rows as a batch, and the pixels of their images."""
        batch = collate([self.rows[row] for row in chosen], trim_after_labels=False)
        if self.slots is not None:
            batch = replace(batch, slot_start=self.slots[list(chosen)])
        shown = [self.pixel_index[row] for row in chosen if self.pixel_index[row] >= 0]
        return batch, self.pixels[shown] if shown else None


def _extended(row: TokenizedExample, ids: npt.NDArray[np.int64]) -> TokenizedExample:
    """Append generated tokens to a row."""
    unscored = np.full(len(ids), IGNORED_LABEL, dtype=row.labels.dtype)
    return replace(
        row,
        ids=np.concatenate([row.ids, ids.astype(row.ids.dtype)]),
        labels=np.concatenate([row.labels, unscored]),
    )
