"""Towers of transformers: which models, where their parts stand, and how they are loaded.

A run names them by `tower: transformers` and `tower_weights`, a folder or a repository. Of a whole
SigLIP the vision part alone is read. SigLIP 2 of the NaFlex kind is not among them, as its images
have no fixed grid; CLIP is read through open_clip.
"""

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ademvl.errors import SettingsError, WeightsError

_VISION = "vision_config"  # in configurations of image and text


@dataclass(frozen=True)
class Layout:
    """Where the parts of a model stand.

    Attributes:
        model_class: in transformers.
        blocks: list of residual blocks.
        norm: behind the last of them.
        has_cls: whether [cls] is the first token, with registers behind it.
        pooling: attention pooling; empty without.
    """

    model_class: str
    blocks: str
    norm: str
    has_cls: bool = True
    pooling: str = ""


_LAYOUTS = {
    "dinov2": Layout("Dinov2Model", "encoder.layer", "layernorm"),
    "dinov2_with_registers": Layout("Dinov2WithRegistersModel", "encoder.layer", "layernorm"),
    "dinov3_vit": Layout("DINOv3ViTModel", "model.layer", "norm"),
    "siglip_vision_model": Layout(
        "SiglipVisionModel", "encoder.layers", "post_layernorm", has_cls=False, pooling="head"
    ),
}
"""By `model_type` of their configuration."""


def layout_of(visual: Any) -> Layout | None:
    """Return where the parts of a model stand; None where it is none of these."""
    layout = _LAYOUTS.get(getattr(getattr(visual, "config", None), "model_type", ""))
    if layout is None:
        return None
    if layout.pooling and not getattr(visual.config, "vision_use_head", True):
        layout = replace(layout, pooling="")
    return layout


def transformers_tower(weights: str) -> nn.Module:
    """Build a tower by its configuration alone; its weights are made as torch makes them.

    Raises:
        SettingsError: it is none of the models that are known here.
        WeightsError: its configuration is missing or damaged.
    """
    model_class, config = _class_and_config(weights)
    model: nn.Module = model_class(config)
    return model


def load_transformers_tower(weights: str) -> nn.Module:
    """Load a tower in fp32.

    Raises:
        SettingsError, WeightsError: see `transformers_tower`; or weights are missing or damaged.
    """
    from safetensors import SafetensorError

    model_class, config = _class_and_config(weights)
    try:
        loaded: Any = model_class.from_pretrained(
            weights, config=config, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, SafetensorError, RuntimeError, ValueError, struct.error) as error:
        raise WeightsError(f"{_name(weights)} cannot be loaded: {error}. Get it again.") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(
            f"{_name(weights)} lacks {len(missing)} weights, first {missing[0]}; get it again"
        )
    found: nn.Module = model
    return found


def _class_and_config(weights: str) -> tuple[Any, Any]:
    import transformers

    if not weights:
        raise SettingsError(
            "backbones.tower_weights: empty, but tower transformers needs a folder or a repository"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(weights)
    except (OSError, ImportError) as error:
        remedy = "Check the name, that the download is complete, or the network."
        raise WeightsError(f"{_name(weights)} cannot be loaded: {error}. {remedy}") from error
    except (ValueError, KeyError) as error:
        raise SettingsError(f"{_name(weights)} is not known to transformers: {error}") from error
    config = getattr(config, _VISION, config)
    layout = _LAYOUTS.get(config.model_type)
    model_class = getattr(transformers, layout.model_class, None) if layout else None
    if model_class is None:
        raise SettingsError(
            f"{_name(weights)} is a {config.model_type}; towers of transformers are "
            f"{', '.join(_LAYOUTS)}. CLIP is named by its architecture in open_clip."
        )
    config._attn_implementation = "sdpa"
    return model_class, config


def _name(weights: str) -> str:
    what = weights if Path(weights).is_dir() else f"repository {weights}"
    return f"backbones.tower_weights: {what}"
