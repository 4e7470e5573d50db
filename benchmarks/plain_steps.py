"""Training steps of the plain methods, from the very models and values of a trainer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from plain.methods import PlainAdem, PlainLavin, PlainMemvp, PlainMethod
from plain.models import Llama, Tower
from torch import Tensor

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.config.run import Precision
from ademvl.data.collate import Batch, collate
from ademvl.machine.precision import autocast
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.released import lavin_names, memvp_names, reference_names

Figures = Sequence[float]
Work = Callable[[], Figures]
"""Does the work once, and returns figures that both sides must agree on at first."""


class PlainLavinInFew(PlainLavin):
    """For a tower of few blocks: [cls] after every second one."""

    cls_every = 2


NO_DROPOUT = ClipAdapterSettings(dropout=0.0)
METHODS: Mapping[
    str, tuple[MethodSettings, type[PlainMethod], Callable[..., Mapping[str, Tensor]]]
] = {
    "adem": (AdemSettings(clip_adapter=NO_DROPOUT), PlainAdem, reference_names.to_reference),
    "memvp": (
        MemvpSettings(clip_adapter=NO_DROPOUT, dropout=0.0),
        PlainMemvp,
        memvp_names.to_released,
    ),
    "lavin": (
        LavinSettings(dropout=0.0, tower_routing="first_of_batch"),
        PlainLavin,
        lavin_names.to_released,
    ),
    "lavin, 6 blocks": (
        LavinSettings(dropout=0.0, tower_routing="first_of_batch", cls_blocks=(1, 3, 5)),
        PlainLavinInFew,
        lavin_names.to_released,
    ),
    "lavin, 4 blocks": (
        LavinSettings(dropout=0.0, tower_routing="first_of_batch", cls_blocks=(1, 3)),
        PlainLavinInFew,
        lavin_names.to_released,
    ),
}
"""Settings, the plain method, and what names its tensors."""


class PlainStep:
    """Training steps of a plain method from the values that a trainer has."""

    def __init__(
        self,
        name: str,
        trainer: Any,
        images: Tensor | None,
        sizes: Any,
        *,
        precision: Precision = "fp32",
    ) -> None:
        _, kind, renamed = METHODS[name]
        model = trainer.model
        self._device, self._precision = model.device, precision
        self._leaves = {
            key: tensor.to(model.device).clone().requires_grad_()
            for key, tensor in renamed(model.adapter_state_dict()).items()
        }
        llm = Llama(
            model.llm.state_dict(), heads=sizes.llm.heads, eps=model.llm.config.rms_norm_eps
        )
        heads = sizes.vision.width // sizes.vision.head_width
        tower = Tower(model.tower.visual.state_dict(), heads=heads) if model.tower else None
        self._method = kind(llm, tower, self._leaves)
        self._batch: Batch = collate(
            [trainer.rows[item] for item in trainer.plan.items_of(0)], trim_after_labels=True
        )
        self._images = self._of_all_rows(images)
        options = trainer.optimization
        groups = [
            [leaf for leaf in self._leaves.values() if (leaf.ndim > 1) == is_decayed]
            for is_decayed in (True, False)
        ]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": groups[0], "weight_decay": options.weight_decay},
                {"params": groups[1], "weight_decay": 0.0},
            ],
            lr=1e-4,
            betas=(0.9, 0.95),
        )

    def _of_all_rows(self, images: Tensor | None) -> Tensor:
        """Give rows without a picture a black one."""
        assert images is not None
        everything = images.new_zeros(len(self._batch.has_image), *images.shape[1:]).float()
        everything[self._batch.has_image] = images.float()
        return everything.to(self._device)

    def __call__(self) -> Figures:
        """Do a step; return its loss and gradient norm."""
        batch = self._batch
        rows = (
            batch.input_ids.long().to(self._device),
            batch.labels.long().to(self._device),
            batch.slot_start.tolist(),
            batch.has_image.to(self._device),
        )
        with autocast(self._device, self._precision):
            if self._method.tower is None:
                loss = self._method.loss_of_features(*rows, self._images)
            else:
                loss = self._method.loss(*rows, self._images)
        self._optimizer.zero_grad()
        loss.backward()
        gradients = [leaf.grad for leaf in self._leaves.values() if leaf.grad is not None]
        norm = torch.stack([gradient.double().norm() for gradient in gradients]).norm()
        self._optimizer.step()
        return [loss.item(), norm.item()]


def padded_in_front(
    rows: Sequence[Any], device: torch.device
) -> tuple[Tensor, Tensor, list[int], Tensor]:
    """Return ids and which are tokens, (B, T), first slots, and which rows have an image."""
    width = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    is_token = torch.zeros(len(rows), width, dtype=torch.bool)
    slots = []
    for place, row in enumerate(rows):
        begin = width - len(row.ids)
        ids[place, begin:] = torch.from_numpy(row.ids)
        is_token[place, begin:] = True
        slots.append(row.slot_start + begin if row.slot_start >= 0 else -1)
    has_image = torch.tensor([row.image is not None for row in rows])
    return ids.to(device), is_token.to(device), slots, has_image.to(device)
