"""Makes batches of rows, cheaply: only copies and pads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import FILLER_ID, IGNORED_LABEL


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one forward pass, padded on the right with id 0 and label -100.

    Attributes:
        item_ids: of the B rows.
        input_ids: (B, T) int64.
        labels: (B, T) int64; -100 where nothing is scored; not shifted.
        lengths: (B,) int64, places of each row that are not padding.
        slot_start: (B,) int64, place of the first slot, -1 without slots.
        has_image: (B,) bool.
        images: files of the pictures, None without one.
    """

    item_ids: tuple[str, ...]
    input_ids: Tensor
    labels: Tensor
    lengths: Tensor
    slot_start: Tensor
    has_image: Tensor
    images: tuple[Path | None, ...]


def collate(rows: Sequence[TokenizedExample], *, trim_after_labels: bool) -> Batch:
    """Pad rows to one batch.

    Args:
        rows: at least one, of one run.
        trim_after_labels: cut the batch after the last place that carries a label in any row:
            what comes later has no influence on the loss.

    Raises:
        ValueError: no row carries a label, though the batch is to be cut after the last.
    """
    width = max(len(row.ids) for row in rows)
    if trim_after_labels:
        width = max(_end_of_labels(row) for row in rows)
        if not width:
            raise ValueError(f"no labels in the batch of {', '.join(row.item_id for row in rows)}")
    input_ids = np.full((len(rows), width), FILLER_ID, dtype=np.int64)  # (B, T)
    labels = np.full((len(rows), width), IGNORED_LABEL, dtype=np.int64)  # (B, T)
    for place, row in enumerate(rows):
        length = min(len(row.ids), width)
        input_ids[place, :length] = row.ids[:length]
        labels[place, :length] = row.labels[:length]
    return Batch(
        item_ids=tuple(row.item_id for row in rows),
        input_ids=torch.from_numpy(input_ids),
        labels=torch.from_numpy(labels),
        lengths=torch.tensor([min(len(row.ids), width) for row in rows]),
        slot_start=torch.tensor([row.slot_start for row in rows]),
        has_image=torch.tensor([row.image is not None for row in rows]),
        images=tuple(row.image for row in rows),
    )


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


def label_ends(labels: Tensor) -> Tensor:
    """Return the place behind each row's last label, (B,) of (B, T); 0 without any."""
    places = torch.arange(1, labels.shape[1] + 1, device=labels.device)
    return ((labels != IGNORED_LABEL) * places).amax(dim=1)


def _end_of_labels(row: TokenizedExample) -> int:
    """Return the place behind the last label, 0 without any."""
    scored = np.flatnonzero(row.labels != IGNORED_LABEL)
    return int(scored[-1]) + 1 if len(scored) else 0
