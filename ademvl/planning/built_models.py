"""Models that no formula covers, built without memory: their parameters, and what a pass takes."""

import json
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

from ademvl.config.method import TowerStates
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError
from ademvl.vision.tower import VisionTower, untrained_tower


class DecoderParameters(NamedTuple):
    """Weights of a decoder.

    Attributes:
        total: all of them.
        in_matrices: those of linear layers inside its layers, which quantisation reaches.
    """

    total: int
    in_matrices: int


def decoder_config(text: str) -> Any:
    """Return a configuration of transformers from its JSON.

    Raises:
        SettingsError: transformers knows no such model.
    """
    from transformers import AutoConfig

    content = json.loads(text)
    family = content.pop("model_type", "")
    try:
        return AutoConfig.for_model(family, **content)
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(f"backbones.llm: its configuration is not known: {error}") from error


@cache
def decoder_parameters(text: str) -> DecoderParameters:
    """Count the weights of a decoder by its configuration, as JSON."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        llm: Any = AutoModelForCausalLM.from_config(decoder_config(text))
    matrices = (part for part in llm.model.layers.modules() if isinstance(part, nn.Linear))
    return DecoderParameters(
        total=sum(parameter.numel() for parameter in llm.parameters()),
        in_matrices=sum(matrix.weight.numel() for matrix in matrices),
    )


@cache
def built_tower(backbones: BackboneSettings) -> VisionTower:
    """Build a tower without memory; `backbones` names nothing else.

    Raises:
        SettingsError, WeightsError: see `untrained_tower`.
    """
    with torch.device("meta"):
        return untrained_tower(backbones)


def tower_parameters(backbones: BackboneSettings) -> int:
    """Count the weights of a tower, with its pooling and projection."""
    return sum(parameter.numel() for parameter in built_tower(backbones).parameters())


@cache
def built_tower_flops(backbones: BackboneSettings, states: TowerStates) -> int:
    """Count the operations of a frozen tower's pass over one image."""
    from torch.utils.flop_counter import FlopCounterMode

    tower = built_tower(backbones)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower.encode(torch.empty(1, 3, tower.image_size, tower.image_size, device="meta"), states)
    return int(counter.get_total_flops())
