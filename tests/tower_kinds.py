"""A tiny random tower of each kind that is supported, named in settings as real ones are."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models import ConvNeXt, Eva, VisionTransformer, register_model
from torch import nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from ademvl.config.run import TRANSFORMERS_TOWER, BackboneSettings
from tests import tiny

SIDE, WIDTH = 16, 16
_SIZES = {"embed_dim": WIDTH, "depth": 3, "num_heads": 2}
_TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}


@register_model
def tiny_siglip(pretrained: bool = False, **more: Any) -> VisionTransformer:
    """No [cls], attention pooling."""
    return VisionTransformer(img_size=SIDE, patch_size=4, class_token=False, **_SIZES, **_own(more))


@register_model
def tiny_eva02(pretrained: bool = False, **more: Any) -> Eva:
    """[cls], rotary embedding, gated MLPs, a projection in its head."""
    return Eva(
        img_size=SIDE, patch_size=4, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True,
        qkv_fused=False, **_SIZES, **_own(more),
    )  # fmt: skip


@register_model
def tiny_registers(pretrained: bool = False, **more: Any) -> VisionTransformer:
    """[cls] and three registers."""
    model = VisionTransformer(img_size=SIDE, patch_size=4, reg_tokens=3, **_SIZES, **_own(more))
    model.default_cfg = {}
    return model


@register_model
def tiny_convnext(pretrained: bool = False, **more: Any) -> ConvNeXt:
    """A map of 2 x 2 at the end."""
    model = ConvNeXt(depths=(1, 1, 1, 3), dims=(8, 8, 8, WIDTH), **_own(more))
    model.default_cfg = {"pool_size": (2, 2)}
    return model


def _own(more: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what timm hands on of a model's origin."""
    return {
        key: value for key, value in more.items() if not key.startswith(("pretrained", "cache"))
    }


OPEN_CLIP: Mapping[str, Mapping[str, Any]] = {
    "SigLIP": {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "timm_model_name": "tiny_siglip", "timm_pool": "map", "timm_proj": "none",
            "image_size": SIDE,
        },
    },
    "EVA02": {
        "embed_dim": 8,
        "vision_cfg": {
            "timm_model_name": "tiny_eva02", "timm_pool": "token", "timm_proj": None,
            "image_size": SIDE,
        },
    },
    "registers": {
        "embed_dim": 8,
        "vision_cfg": {
            "timm_model_name": "tiny_registers", "timm_pool": "token", "timm_proj": "linear",
            "image_size": SIDE,
        },
    },
    "ConvNeXt": {
        "embed_dim": 8,
        "vision_cfg": {
            "timm_model_name": "tiny_convnext", "timm_pool": "", "timm_proj": "linear",
            "image_size": 64,
        },
    },
    "RN50": {
        "embed_dim": 8,
        "vision_cfg": {"layers": [1, 1, 1, 3], "width": 8, "image_size": 64, "patch_size": None},
    },
}  # fmt: skip
"""Configurations in open_clip's keys, by kind."""
_HF = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": SIDE}


def _siglip() -> SiglipModel:
    vision = {**_HF, "patch_size": 4, "intermediate_size": 24}
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 16}
    return SiglipModel(SiglipConfig(vision_config=vision, text_config=text))


TRANSFORMERS: Mapping[str, Callable[[], Any]] = {
    "DINOv2": lambda: Dinov2Model(Dinov2Config(**_HF, patch_size=4)),
    "DINOv2 with registers": lambda: Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(**_HF, patch_size=4, num_register_tokens=3)
    ),
    "DINOv3": lambda: DINOv3ViTModel(
        DINOv3ViTConfig(**_HF, patch_size=4, num_register_tokens=2, intermediate_size=24)
    ),
    "SigLIP of transformers": lambda: SiglipVisionModel(
        SiglipVisionConfig(**_HF, patch_size=4, intermediate_size=24)
    ),
    "SigLIP 2 with its text": _siglip,
}
"""Models of transformers, by kind."""

WITHOUT_CLS = ("SigLIP", "ConvNeXt", "RN50", "SigLIP of transformers", "SigLIP 2 with its text")
KINDS = (*OPEN_CLIP, *TRANSFORMERS)


def make_tower(kind: str, folder: Path) -> BackboneSettings:
    """Write a tower, every weight random, and return settings that name it."""
    import open_clip

    cls = "pooled" if kind in WITHOUT_CLS else "token"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind in TRANSFORMERS:
            model = _filled(TRANSFORMERS[kind]())
            model.save_pretrained(folder)
            return BackboneSettings(
                tower=TRANSFORMERS_TOWER, tower_weights=str(folder), tower_cls=cls
            )
        name = f"tiny-{kind}"
        config = OPEN_CLIP[kind] | {"text_cfg": _TEXT}
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
        tiny.register_tower(folder)
        weights = folder / "tower.pt"
        torch.save(_filled(open_clip.create_model(name)).state_dict(), weights)
    return BackboneSettings(tower=name, tower_weights=str(weights), tower_cls=cls)


def _filled(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model
