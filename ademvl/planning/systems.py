"""Costs of whole systems, which are evaluated only: from their parameters, counted on `meta`.

Operations are two a parameter and token, without those of attention among tokens; embeddings take
none but at the output. Memory is that of weights, key-value cache, one layer's states and logits.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ademvl.config.run import RunSettings
from ademvl.errors import SettingsError
from ademvl.machine.devices import DeviceType
from ademvl.planning.frozen_costs import QUANTIZED_BYTES
from ademvl.planning.memory import CUDA_CONTEXT_BYTES, FRAGMENTATION, PROCESS_BYTES
from ademvl.planning.sizes import MicroBatch, Numerics
from ademvl.planning.workload import Split

SYSTEMS_FILE = Path(__file__).with_name("systems.yaml")
_STATES = 14  # widths of a layer's buffers: MLP of 4 and 4, attention of 4, residual streams


@dataclass(frozen=True, kw_only=True)
class SystemSize:
    """Sizes of a whole system.

    Attributes:
        vision: parameters of the tower and of what brings images to the text.
        language: parameters of the language model without its embeddings.
        embeddings: of the text, input and output.
        image_tokens: places that an image takes in the text.
        vision_tokens: tokens of an image in the tower.
        layers, width, vocabulary: of the language model.
    """

    vision: int
    language: int
    embeddings: int
    image_tokens: int
    vision_tokens: int
    layers: int
    width: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.vision + self.language + self.embeddings


def system_size(run: RunSettings) -> SystemSize:
    """Count what a run's system has, from its configuration.

    Raises:
        SettingsError: see `config_of`.
    """
    return size_of(config_of(run))


def config_of(run: RunSettings) -> Any:
    """Return the configuration of a run's system, as transformers has it; nothing is fetched.

    Raises:
        SettingsError: its checkpoint is not there, and no table knows its sizes.
    """
    from ademvl.llm.source import llm_config

    path, known = Path(run.backbones.llm), _known()
    if (path / "config.json").is_file():
        return llm_config(run.backbones)
    if path.name not in known:
        raise SettingsError(
            f"backbones.llm: {run.backbones.llm} is not downloaded (no config.json there), and its "
            f"sizes are not known. Download it first, or use one of {', '.join(sorted(known))}"
        )
    from transformers import AutoConfig

    raw = dict(known[path.name])
    return AutoConfig.for_model(raw.pop("model_type"), **raw)


@cache
def _known() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = yaml.safe_load(SYSTEMS_FILE.read_text(encoding="utf-8"))
    return known


def size_of(config: Any) -> SystemSize:
    """Count a system of transformers, built without memory.

    Args:
        config: of transformers.
    """
    import torch
    import transformers

    with torch.device("meta"):
        model_class = getattr(transformers, config.architectures[0])
        model: Any = model_class(config)
    text, vision = config.get_text_config(), config.vision_config
    in_language, embeddings = 0, 0
    ends = {id(part.weight) for part in _embeddings(model)}
    for name, parameter in model.named_parameters():
        if id(parameter) in ends:
            embeddings += parameter.numel()
        elif any(part in name for part in ("language_model", "text_decoder")):
            in_language += parameter.numel()
    total = sum(parameter.numel() for parameter in model.parameters())
    patches = (vision.image_size // vision.patch_size) ** 2
    return SystemSize(
        vision=total - in_language - embeddings,
        language=in_language,
        embeddings=embeddings,
        image_tokens=getattr(config, "num_query_tokens", 0)
        or patches * (config.model_type == "llava"),
        vision_tokens=patches + 1,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        vocabulary=text.vocab_size,
    )


def _embeddings(model: Any) -> list[Any]:
    decoder = getattr(model, "text_decoder", model)
    return [
        part
        for part in (decoder.get_input_embeddings(), decoder.get_output_embeddings())
        if part is not None
    ]


def system_flops(size: SystemSize, split: Split, *, new_tokens: int) -> float:
    """Count the operations of answering all items of a split."""
    if not split.rows:
        return 0.0
    counted = 0
    for row in split.rows:
        tokens = row.width + size.image_tokens * row.has_image + new_tokens - 1
        counted += 2 * size.language * tokens + 2 * size.width * size.vocabulary * new_tokens
        counted += 2 * size.vision * size.vision_tokens * row.has_image
    return counted / len(split.rows) * split.items


def system_memory(
    size: SystemSize,
    numerics: Numerics,
    batch: MicroBatch,
    *,
    new_tokens: int,
    device: DeviceType,
) -> int:
    """Predict the peak of a process that answers prompts."""
    whole = numerics.bytes
    linear = QUANTIZED_BYTES.get(numerics.quantization, whole)
    weights = int((size.vision + size.language) * linear) + size.embeddings * whole
    tokens = batch.rows * (batch.width + size.image_tokens)
    states = whole * tokens * _STATES * size.width
    cached = 2 * whole * size.layers * size.width * (tokens + batch.rows * new_tokens)
    comes_and_goes = states + (cached if new_tokens > 1 else 0)
    comes_and_goes += batch.rows * size.vocabulary * (whole + 4)
    allowance = CUDA_CONTEXT_BYTES if device == "cuda" else PROCESS_BYTES
    return weights + allowance + int((1 + FRAGMENTATION) * comes_and_goes)
