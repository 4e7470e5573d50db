"""The frozen vision tower: states of the blocks of any CLIP that open_clip builds."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ademvl.config.method import TowerStates
from ademvl.config.mini_backbones import MINI_TOWERS
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.storage.weight_files import read_weights
from ademvl.vision.attention import with_linear_projections
from ademvl.vision.tower_config import tower_config
from ademvl.vision.tower_weights import load_clip

PENULTIMATE = TowerStates()
FEATURES = "all blocks but the last, then ln_post; class token first"
"""What `describe` says of the penultimate states: stands in keys of features that are there."""


@dataclass(frozen=True)
class TowerShape:
    """Sizes of a tower, known without its weights.

    Attributes:
        width: C, of each token.
        num_blocks: residual blocks, the last one included.
        image_size: pixels of the square input's side.
        num_grid_tokens: G, patches of an image.
        output_width: of tokens behind the output projection.
    """

    width: int
    num_blocks: int
    image_size: int
    num_grid_tokens: int
    output_width: int


class VisionTower(nn.Module):
    """Encodes pixels into the states of a vision transformer's blocks.

    Weights are frozen and stay in evaluation mode. LayerNorms run in fp32, under autocast too.

    Args:
        clip: model of open_clip with a vision transformer in `visual`, which is taken over: its
            attention is computed in another way, see `ademvl/vision/attention.py`.
        name: architecture, for the fingerprint.

    Raises:
        SettingsError: the model's vision part is no plain transformer.
    """

    def __init__(self, clip: nn.Module, *, name: str) -> None:
        super().__init__()
        visual = _require_transformer(clip, name)
        self.visual = visual.eval().requires_grad_(False)
        with_linear_projections(visual.transformer.resblocks)
        grid_size, image_size = visual.grid_size, visual.image_size
        if grid_size[0] != grid_size[1] or isqrt(grid_size[0] * grid_size[1]) != grid_size[0]:
            raise SettingsError(f"backbones.tower: {name} has a grid of {grid_size}, not a square")
        self.shape = TowerShape(
            width=visual.ln_post.normalized_shape[0],
            num_blocks=len(visual.transformer.resblocks),
            image_size=image_size[0] if isinstance(image_size, tuple) else image_size,
            num_grid_tokens=grid_size[0] * grid_size[1],
            output_width=visual.output_dim,
        )
        if self.shape.num_blocks < 2:
            raise SettingsError(f"backbones.tower: {name} has fewer than two blocks")
        self.name = name

    @property
    def width(self) -> int:
        """C, width of each token."""
        return self.shape.width

    @property
    def image_size(self) -> int:
        """Pixels of the square input's side."""
        return self.shape.image_size

    @property
    def num_grid_tokens(self) -> int:
        """G, patches of an image."""
        return self.shape.num_grid_tokens

    @cached_property
    def fingerprint(self) -> str:
        """Name, activation and SHA-256 of the vision weights; part of every feature's cache key."""
        digest = hashlib.sha256()
        for key, tensor in self.visual.state_dict().items():
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(memoryview(raw.numpy()))
        activation = type(self.visual.transformer.resblocks[0].mlp.gelu).__name__
        return f"{self.name} {activation} sha256:{digest.hexdigest()}"

    def encode(self, pixels: Tensor, states: TowerStates = PENULTIMATE) -> Tensor:
        """Return the features of images.

        Args:
            pixels: (B, 3, H, W), normalised, H = W = `image_size`.
            states: which blocks' states, of which tokens, and what is done to them. The default is
                the reference's: all tokens of the last block but one, by ln_post.

        Returns:
            (B, N, C): the chosen tokens of each chosen block, blocks in ascending order; of all
            tokens [cls] comes first, then the grid row by row. C is that of the output projection
            for projected states.

        Raises:
            ValueError: the pixels' size is not the tower's.
            SettingsError: the tower has no such block.
        """
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"pixels of {tuple(pixels.shape[-2:])}, the tower wants {self.image_size} squared"
            )
        output = self.visual.forward_intermediates(
            pixels,
            indices=self._indices(states),
            stop_early=True,
            normalize_intermediates=states.normalized,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        prefixes, grids = output["image_intermediates_prefix"], output["image_intermediates"]
        parts = []
        for prefix, grid in zip(prefixes, grids, strict=True):
            if states.tokens != "grid":
                parts.append(prefix)
            if states.tokens != "cls":
                parts.append(grid)
        features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # (B, N, C)
        if not states.projected:
            return features
        if self.visual.proj is None:
            raise SettingsError(
                f"backbones.tower_weights: the weights of {self.name} have no output projection, "
                "which the method reads; use those of the whole CLIP"
            )
        return features @ self.visual.proj

    @torch.no_grad()
    def encode_empty(self, states: TowerStates) -> Tensor:
        """Return the features of a picture that is zero after normalisation, (1, N, C)."""
        weight = next(self.parameters())
        pixels = torch.zeros(1, 3, self.image_size, self.image_size)
        return self.encode(pixels.to(weight.device, weight.dtype), states)

    def features_shape(self, states: TowerStates) -> tuple[int, int]:
        """Return the number of tokens that `encode` gives for an image, and their width."""
        tokens = {"all": 1 + self.num_grid_tokens, "cls": 1, "grid": self.num_grid_tokens}
        width = self.shape.output_width if states.projected else self.width
        return len(self._indices(states)) * tokens[states.tokens], width

    def describe(self, states: TowerStates) -> str:
        """Say in words which states these are; part of the key of cached features."""
        blocks = self._indices(states)
        is_penultimate = blocks == self._indices(PENULTIMATE)
        if is_penultimate and replace(states, blocks=PENULTIMATE.blocks) == PENULTIMATE:
            return FEATURES
        norm = "then ln_post" if states.normalized else "before ln_post"
        projection = ", projected" if states.projected else ""
        tokens = {"all": "class token first", "cls": "class token alone", "grid": "grid alone"}
        numbers = ", ".join(str(block + 1) for block in blocks)
        of = self.shape.num_blocks
        return f"blocks {numbers} of {of}, {norm}{projection}; {tokens[states.tokens]}"

    def _indices(self, states: TowerStates) -> list[int]:
        """Return the blocks' numbers, counted from 0."""
        num_blocks = self.shape.num_blocks
        if missing := states.missing(num_blocks):
            raise SettingsError(
                f"backbones.tower: {self.name} has {num_blocks} blocks, and the method reads "
                f"{', '.join(map(str, missing))}, counted from 0 or from the end"
            )
        return sorted({block % num_blocks for block in states.blocks})


def load_tower(backbones: BackboneSettings) -> VisionTower:
    """Load the tower that the settings name, with its weights.

    Raises:
        SettingsError: an unknown name, or an activation that the weights were not trained with.
        WeightsError: the weights are missing or damaged.
    """
    if backbones.tower in MINI_TOWERS:
        from ademvl.backbones.mini_clip_model import load_mini_clip

        return VisionTower(load_mini_clip(MINI_TOWERS[backbones.tower]), name=backbones.tower)
    name, weights = backbones.tower, backbones.tower_weights
    tower_shape(backbones)
    return VisionTower(load_clip(name, weights), name=f"{name}/{Path(weights).name}")


def tower_shape(backbones: BackboneSettings) -> TowerShape:
    """Return the sizes of the tower that the settings name, without loading weights.

    Raises:
        SettingsError: an unknown name, or a tower that is no plain vision transformer.
    """
    config = tower_config(backbones.tower)
    vision = config["vision_cfg"]
    return TowerShape(
        width=vision["width"],
        num_blocks=vision["layers"],
        image_size=vision["image_size"],
        num_grid_tokens=(vision["image_size"] // vision["patch_size"]) ** 2,
        output_width=config["embed_dim"],
    )


def load_openai_format(path: Path) -> VisionTower:
    """Load a state dict in the key names of OpenAI's CLIP releases; QuickGELU, cast to fp32.

    Args:
        path: safetensors file with vision and text weights; sizes are read off the tensors.

    Raises:
        WeightsError: the file is missing, damaged or has other keys.
    """
    from open_clip.model import build_model_from_openai_state_dict

    state = read_weights(path, remedy="Get the file again.")
    try:
        clip = build_model_from_openai_state_dict(state, quick_gelu=True, cast_dtype=torch.float32)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"{path}: no CLIP state dict in OpenAI's format: {error}") from error
    return VisionTower(clip.float(), name="openai")


def _require_transformer(clip: nn.Module, name: str) -> Any:
    from open_clip.transformer import VisionTransformer

    visual = getattr(clip, "visual", None)
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None:
        raise SettingsError(
            f"backbones.tower: {name} is no plain vision transformer of open_clip "
            "(ViT with a class token and without attention pooling)"
        )
    return visual
