"""Real models of given sizes with random weights, and batches for them: for probes and checks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ademvl.config.run import Precision
from ademvl.data.collate import Batch
from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.machine.precision import DTYPES
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.planning.built_models import decoder_config
from ademvl.planning.frozen_costs import feature_shape
from ademvl.planning.rows import Row
from ademvl.planning.shapes import LlmShape, VisionShape
from ademvl.planning.sizes import ModelSizes, Numerics
from ademvl.vision.tower import TowerShape, VisionTower, untrained_tower

_FIRST_WORD_ID = 3  # behind unknown, begin and end
_SLOT_START = 3


def build_random_model(
    sizes: ModelSizes, numerics: Numerics, *, device: str = "cpu", layers: Sequence[int] = ()
) -> VisionLanguageModel:
    """Build a decoder and a tower of these sizes with random weights, joined by a method.

    Args:
        sizes: of the models; without `online` there is no tower.
        numerics: precision and checkpointing; quantisation is left out.
        device: where weights are made; on `meta` they take no memory.
        layers: numbers of those decoder layers that there are, in ascending order; none for all.
            The method is that of the whole decoder, and does in each layer what it does there.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        llm = random_llm(sizes.llm, numerics.precision, device, layers=layers)
        tower = random_tower(sizes.vision, device) if sizes.online else None
    present = llm.model.layers
    if layers:
        llm.model.layers = _among_all(llm, layers, _config_of(sizes.llm))
    shape = tower_shape_of(sizes.vision)
    with torch.device(device):
        empty = torch.zeros(1, *feature_shape(sizes.vision, sizes.method.tower_states))
        model = VisionLanguageModel(
            llm, sizes.method, tower, tower_shape=shape, empty_picture=empty
        )
    llm.model.layers = present
    if device != "meta":
        model.initialize(0)
    if numerics.checkpointing:
        model.enable_checkpointing()
    return model.train()


def _among_all(llm: Any, numbers: Sequence[int], whole: Any) -> nn.ModuleList:
    """Number a decoder's layers, and return them among others that have no memory.

    Args:
        llm: has these layers alone, which its configuration says.
        numbers: of the layers.
        whole: configuration of the whole decoder.
    """
    num_layers = whole.num_hidden_layers
    for name, values in {"num_hidden_layers": num_layers, **_by_layer(whole)}.items():
        setattr(llm.config, name, values)
    present = dict(zip(numbers, llm.model.layers, strict=True))
    for number, layer in present.items():
        layer.self_attn.layer_idx = number
    layer_class = type(next(iter(llm.model.layers)))
    with torch.device("meta"):
        return nn.ModuleList(
            present[number] if number in present else layer_class(llm.config, number)
            for number in range(num_layers)
        )


def tower_shape_of(shape: VisionShape) -> TowerShape:
    """Return the sizes of a tower that a method depends on."""
    return TowerShape(
        width=shape.width,
        num_blocks=shape.blocks,
        image_size=shape.image_size,
        num_grid_tokens=shape.grid_tokens,
        output_width=shape.output_width,
    )


def random_llm(
    shape: LlmShape, precision: Precision, device: str, *, layers: Sequence[int] = ()
) -> Any:
    """Build a decoder of this shape with random weights, made in their final precision.

    Args:
        shape: of the whole decoder; a Llama where it names no other.
        precision: of the weights.
        device: where they are made.
        layers: numbers of those that there are, ascending; none for all.
    """
    from transformers import AutoModelForCausalLM

    config = _config_of(shape)
    if layers:
        few = {name: [values[n] for n in layers] for name, values in _by_layer(config).items()}
        for name, value in {"num_hidden_layers": len(layers), **few}.items():
            setattr(config, name, value)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            config, dtype=DTYPES[precision], attn_implementation="sdpa"
        )


def _config_of(shape: LlmShape) -> Any:
    """Return the configuration of a decoder of this shape."""
    if shape.config:
        return decoder_config(shape.config)
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.ffn_width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
        attention_bias=shape.attention_bias,
        bos_token_id=1,
        eos_token_id=2,
    )


def _by_layer(config: Any) -> dict[str, list[Any]]:
    """Return what a configuration says of each layer, such as its kind of attention."""
    num_layers = config.num_hidden_layers
    return {
        name: list(values)
        for name, values in vars(config).items()
        if isinstance(values, list) and len(values) == num_layers
    }


def random_tower(shape: VisionShape, device: str) -> VisionTower:
    """Build a tower of this shape with random weights; it has no text side to speak of."""
    if shape.built_from is not None:
        with torch.device(device):
            return untrained_tower(shape.built_from)
    import open_clip

    vision = {
        "image_size": shape.image_size,
        "layers": shape.blocks,
        "width": shape.width,
        "patch_size": shape.patch_size,
        "mlp_ratio": shape.mlp_ratio,
        "head_width": shape.head_width,
    }
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    with torch.device(device):
        clip = open_clip.CLIP(
            embed_dim=shape.output_width,
            vision_cfg=vision,
            text_cfg=text,
            quick_gelu=shape.has_quick_gelu,
        )
    return VisionTower(clip, name="random")


def random_example(sizes: ModelSizes, row: Row, *, number: int) -> TokenizedExample:
    """Make a row of training data with random words; its image is a name only."""
    generator = np.random.default_rng(number)
    ids = generator.integers(_FIRST_WORD_ID, sizes.llm.vocabulary, row.width).astype(np.int32)
    labels = np.full(row.width, IGNORED_LABEL, dtype=np.int32)
    scored = max(1, min(row.scored, row.width - 1))
    labels[-scored:] = ids[-scored:]
    has_slots = row.has_image and sizes.method.text_places.with_image > 0
    return TokenizedExample(
        item_id=str(number),
        ids=ids,
        labels=labels,
        slot_start=_SLOT_START if has_slots else -1,
        num_slots=sizes.method.text_places.with_image,
        image=Path(str(number)) if row.has_image else None,
        is_shortened=False,
    )


def random_batch(
    sizes: ModelSizes, *, lengths: Sequence[int], scored: int, image_rows: int
) -> Batch:
    """Make a batch of these row lengths; the first `image_rows` rows have an image.

    Args:
        lengths: tokens of each row.
        scored: of them at the end of a row.
    """
    num_rows, width = len(lengths), max(lengths)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        _FIRST_WORD_ID, sizes.llm.vocabulary, (num_rows, width), generator=generator
    )
    labels = torch.full((num_rows, width), IGNORED_LABEL)
    for row, length in enumerate(lengths):
        labels[row, length - scored : length] = ids[row, length - scored : length]
    has_image = torch.arange(num_rows) < image_rows
    has_slots = has_image & (sizes.method.text_places.with_image > 0)
    return Batch(
        item_ids=tuple(str(row) for row in range(num_rows)),
        input_ids=ids,
        labels=labels,
        lengths=torch.tensor(lengths),
        slot_start=torch.where(has_slots, _SLOT_START, -1),
        has_image=has_image,
        images=(None,) * num_rows,
    )


def random_images(sizes: ModelSizes, num_images: int) -> Tensor | None:
    """Make pixels (online) or features (cached) of a batch's images; None without any."""
    if not num_images:
        return None
    vision = sizes.vision
    generator = torch.Generator().manual_seed(0)
    if sizes.online:
        side = vision.image_size
        return torch.randn(num_images, 3, side, side, generator=generator)
    tokens, width = feature_shape(vision, sizes.method.tower_states)
    return torch.randn(num_images, tokens, width, generator=generator).half()
