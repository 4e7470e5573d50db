"""Greedy generation with a key-value cache; the image stays the same in every step.

Rows of a batch end together, with padding on the left that is masked and takes no position, so
that what else is in a batch changes nothing but rounding.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from ademvl.data.collate import Batch
from ademvl.data.tokenizer import FILLER_ID
from ademvl.model import VisionLanguageModel


@dataclass(frozen=True)
class LeftPadded:
    """A batch whose rows end together.

    Attributes:
        input_ids: (B, T) int64, filler on the left.
        mask: (B, T) int64, 1 for tokens.
        position_ids: (B, T) int64, each row's first token at 0; 0 in the padding.
        slot_start: (B,) int64, -1 without slots.
    """

    input_ids: Tensor
    mask: Tensor
    position_ids: Tensor
    slot_start: Tensor


def pad_left(batch: Batch) -> LeftPadded:
    """Move the padding of a batch from the right to the left."""
    num_rows, width = batch.input_ids.shape
    offsets = width - batch.lengths  # (B,)
    places = torch.arange(width).expand(num_rows, width) - offsets[:, None]  # (B, T)
    is_token = places >= 0
    position_ids = places.clamp(min=0)
    return LeftPadded(
        input_ids=batch.input_ids.gather(1, position_ids).masked_fill(~is_token, FILLER_ID),
        mask=is_token.long(),
        position_ids=position_ids,
        slot_start=torch.where(batch.slot_start >= 0, batch.slot_start + offsets, -1),
    )


def greedy_steps(
    model: VisionLanguageModel, batch: Batch, visual: Tensor | None
) -> Generator[Tensor, None, None]:
    """Yield the logits of each next token, (B, V), feeding back the most likely one, without end.

    Every row goes on at each step, whatever it has generated. The caller decides when to stop and
    closes the generator: until then the model sees this batch's images.

    Args:
        model: with its adapter, in evaluation mode.
        batch: prompts, padded on the right.
        visual: see `VisionLanguageModel.labelled_logits`.
    """
    rows = pad_left(batch)
    mask, position_ids = rows.mask.to(model.device), rows.position_ids.to(model.device)
    no_slots = torch.full_like(rows.slot_start, -1)
    with model.fused(visual, batch.has_image) as prompt:
        embeddings = model.embed(rows.input_ids, rows.slot_start, prompt.slots)  # (B, T, d)
        cache = None
        while True:
            hidden_states, cache = model.decode(
                embeddings,
                attention_mask=mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            logits = model.last_logits(hidden_states)
            yield logits
            token_ids = logits.argmax(dim=-1, keepdim=True)  # (B, 1)
            embeddings = model.embed(token_ids, no_slots, None)  # (B, 1, d)
            mask = torch.cat((mask, mask.new_ones(len(mask), 1)), dim=1)
            position_ids = position_ids[:, -1:] + 1


@torch.inference_mode()
def generate_greedily(
    model: VisionLanguageModel,
    batch: Batch,
    visual: Tensor | None,
    *,
    max_new_tokens: int,
    eos_id: int,
) -> list[list[int]]:
    """Continue each prompt by its most likely tokens, up to that row's own end token.

    Args:
        model: with its adapter, in evaluation mode.
        batch: prompts, padded on the right.
        visual: see `VisionLanguageModel.labelled_logits`.
        max_new_tokens: tokens a row at most, the end token included; >= 1.
        eos_id: token that ends a row; not part of the result.

    Returns:
        The new token ids of each row.
    """
    steps: list[Tensor] = []
    has_ended = torch.zeros(len(batch.item_ids), dtype=torch.bool, device=model.device)
    with closing(greedy_steps(model, batch, visual)) as all_logits:
        for logits in all_logits:
            steps.append(logits.argmax(dim=-1))  # (B,)
            has_ended |= steps[-1] == eos_id
            if len(steps) >= max_new_tokens or bool(has_ended.all()):
                break
    return [cut_at(row, eos_id) for row in torch.stack(steps, dim=1).tolist()]


def cut_at(token_ids: list[int], eos_id: int) -> list[int]:
    """Return the ids before the first `eos_id`."""
    return token_ids[: token_ids.index(eos_id)] if eos_id in token_ids else token_ids
