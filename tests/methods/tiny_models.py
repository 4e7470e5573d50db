"""A two-layer Llama and the tiny tower, joined by any method, and batches of eight rows for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel

from ademvl.config.method import MethodSettings
from ademvl.config.run import BackboneSettings
from ademvl.data.collate import Batch, collate
from ademvl.data.rows import TokenizedExample
from ademvl.methods.base import DecoderShape, Method
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape, load_tower
from tests import tiny
from tests.random_decoders import random_decoder

AnyMethod = TypeVar("AnyMethod", bound=Method)
VOCABULARY, WIDTH = 40, 16
LENGTHS = (7, 12, 5, 9, 12, 6, 8, 10)
HAS_IMAGE = (True, False, True, True, False, True, False, True)
ALL = tuple(range(8))


def make_llm() -> LlamaForCausalLM:
    """Return a random Llama of two layers with grouped heads, the same at every call."""
    return random_decoder(vocabulary=VOCABULARY, width=WIDTH, heads=4, kv_heads=2)


def make_method(
    method_class: type[AnyMethod],
    settings: MethodSettings,
    *,
    width: int = 12,
    tower_width: int,
    layers: int = 2,
    blocks: int = 3,
    grid: int = 16,
    trains_tower: bool = False,
) -> AnyMethod:
    """Build a method alone, for models of these sizes."""
    return method_class(
        settings,
        llm=DecoderShape(
            width=width, layers=layers, heads=1, kv_heads=1, head_dim=width, ffn_width=2 * width
        ),
        tower=TowerShape(
            width=tower_width,
            num_blocks=blocks,
            image_size=8,
            num_grid_tokens=grid,
            output_width=8,
        ),
        trains_tower=trains_tower,
    )


def filled(method: AnyMethod, *, size: float = 1.0) -> AnyMethod:
    """Give every tensor of a method values that matter, each from the length of its name."""
    state = {
        name: size
        * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
        for name, parameter in method.named_parameters()
    }
    method.load_state_dict(state)
    return method


def make_backbones(folder: Path) -> BackboneSettings:
    """Write the tiny tower and return settings that name it."""
    return BackboneSettings(tower=tiny.TOWER, tower_weights=str(tiny.make_tower(folder)))


def make_model(
    settings: MethodSettings, backbones: BackboneSettings, llm: PreTrainedModel | None = None
) -> VisionLanguageModel:
    """Join the models by a method that trains inside the tower too; every tensor matters.

    `llm` takes the place of that of `make_llm`.
    """
    model = VisionLanguageModel(llm or make_llm(), settings, load_tower(backbones))
    state = {
        name: 0.3 * torch.randn(p.shape, generator=_generator(name))
        for name, p in model.method.named_parameters()
    }
    model.load_adapter_state_dict(state, source="test")
    return model.eval()


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(0, name))


def make_batch(settings: MethodSettings, numbers: Sequence[int] = ALL) -> Batch:
    """Return some of the eight rows, with the places that a method puts vectors into."""
    return collate([_row(number, settings) for number in numbers], trim_after_labels=False)


def _row(number: int, settings: MethodSettings) -> TokenizedExample:
    length, num_slots = LENGTHS[number], settings.text_places.with_image
    slots = num_slots if HAS_IMAGE[number] else 0
    ids = (np.arange(length) * (number + 3) % (VOCABULARY - 1) + 1).astype(np.int32)
    labels = np.where(np.arange(length) >= length - 2, ids, -100).astype(np.int32)
    return TokenizedExample(
        item_id=str(number),
        ids=np.insert(ids, 2, [0] * slots).astype(np.int32),
        labels=np.insert(labels, 2, [-100] * slots).astype(np.int32),
        slot_start=2 if slots else -1,
        num_slots=num_slots,
        image=Path(str(number)) if HAS_IMAGE[number] else None,
        is_shortened=False,
    )


def make_pixels(numbers: Sequence[int] = ALL) -> Tensor | None:
    """Return the pixels of the rows with an image, (B_img, 3, 8, 8)."""
    shown = [number for number in numbers if HAS_IMAGE[number]]
    everything = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    return everything[shown] if shown else None
