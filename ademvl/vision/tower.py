"""The frozen vision tower: states of the blocks of a vision model, as tokens of each image.

Whatever the model, an image's features are one token in place of [cls] and the grid behind it, row
by row; registers are left out. Where the model has no [cls], or `backbones.tower_cls` says so, the
first token is pooled: by the model's own attention pooling, or the mean of the grid.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ademvl.config.method import TowerStates
from ademvl.config.mini_backbones import MINI_TOWERS
from ademvl.config.run import TRANSFORMERS_TOWER, BackboneSettings, TowerCls
from ademvl.errors import SettingsError, WeightsError
from ademvl.storage.weight_files import read_weights
from ademvl.vision.attention import with_linear_projections
from ademvl.vision.tower_config import is_plain, tower_config
from ademvl.vision.tower_weights import load_clip
from ademvl.vision.transformers_towers import load_transformers_tower, transformers_tower
from ademvl.vision.trunks import find_trunk

PENULTIMATE = TowerStates()
FEATURES = "all blocks but the last, then ln_post; class token first"
"""What `describe` says of the penultimate states: stands in keys of features that are there."""
_SMALLEST_TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}


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
    """Encodes pixels into the states of a vision model's residual blocks.

    Weights are frozen and stay in evaluation mode. LayerNorms run in fp32, under autocast too.

    Args:
        model: of open_clip, whose vision part is taken, or of transformers. It is taken over: its
            attention may be computed in another way, see `ademvl/vision/attention.py`.
        name: architecture, for the fingerprint.
        cls: what the first token of features is.

    Raises:
        SettingsError: the model is of no known layout, or has no [cls].
    """

    def __init__(self, model: nn.Module, *, name: str, cls: TowerCls = "token") -> None:
        super().__init__()
        visual: Any = getattr(model, "visual", model)
        self._trunk = find_trunk(visual, name)
        self.visual = visual.eval().requires_grad_(False)
        with_linear_projections(self.blocks)
        rows, columns = self._trunk.grid_size
        if rows != columns:
            raise SettingsError(
                f"backbones.tower: {name} has a grid of {rows} x {columns}, not a square"
            )
        self.shape = TowerShape(
            width=self._trunk.width,
            num_blocks=len(self.blocks),
            image_size=self._trunk.image_size,
            num_grid_tokens=rows * columns,
            output_width=self._trunk.output_width,
        )
        if self.shape.num_blocks < 2:
            raise SettingsError(f"backbones.tower: {name} has fewer than two blocks")
        if cls == "token" and not self._trunk.has_cls:
            raise SettingsError(f"backbones.tower_cls: {name} has no [cls] token; set it to pooled")
        self.cls = cls
        self.name = name

    @property
    def blocks(self) -> nn.ModuleList:
        """The residual blocks that states are read of, in order."""
        visual: Any = self.visual
        blocks: nn.ModuleList = visual.get_submodule(self._trunk.blocks)
        return blocks

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
        return f"{self.name} {self._kind} sha256:{digest.hexdigest()}"

    @property
    def _kind(self) -> str:
        """Activation of a CLIP, which its name does not tell; class of others, with theirs."""
        mlp: Any = getattr(self.blocks[0], "mlp", None)
        if hasattr(mlp, "gelu"):
            return type(mlp.gelu).__name__
        activation = getattr(getattr(self.visual, "config", None), "hidden_act", "")
        return " ".join(filter(None, (type(self.visual).__name__, activation)))

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
        read = self._trunk.read(pixels, self._indices(states), normalized=states.normalized)
        parts = []
        for prefix, grid in read:
            if states.tokens != "grid":
                parts.append(self._first(prefix, grid))
            if states.tokens != "cls":
                parts.append(grid)
        features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)  # (B, N, C)
        if not states.projected:
            return features
        projected = self._trunk.project(features)
        if projected is None:
            raise SettingsError(
                f"backbones.tower_weights: the weights of {self.name} have no output projection, "
                "which the method reads; use those of the whole CLIP"
            )
        return projected

    def _first(self, prefix: Tensor, grid: Tensor) -> Tensor:
        """Return the token in place of [cls], (B, 1, C), of (B, P, C) and (B, G, C)."""
        if self.cls == "token":
            return prefix[:, :1]
        if self._trunk.pooling is None:
            return grid.mean(dim=1, keepdim=True)
        return self._trunk.pooling(torch.cat((prefix, grid), dim=1))[:, None]

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
        first = "class token" if self.cls == "token" else "pooled token"
        if is_penultimate and replace(states, blocks=PENULTIMATE.blocks) == PENULTIMATE:
            return FEATURES.replace("class token", first)
        norm = "then ln_post" if states.normalized else "before ln_post"
        projection = ", projected" if states.projected else ""
        tokens = {"all": f"{first} first", "cls": f"{first} alone", "grid": "grid alone"}
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
        SettingsError: an unknown name, an activation that the weights were not trained with, or a
            tower without [cls] that is asked for it.
        WeightsError: the weights are missing or damaged.
    """
    name, weights, cls = backbones.tower, backbones.tower_weights, backbones.tower_cls
    if name in MINI_TOWERS:
        from ademvl.backbones.mini_clip_model import load_mini_clip

        return VisionTower(load_mini_clip(MINI_TOWERS[name]), name=name, cls=cls)
    tower_shape(backbones)
    is_of_transformers = name == TRANSFORMERS_TOWER
    model = load_transformers_tower(weights) if is_of_transformers else load_clip(name, weights)
    return VisionTower(model, name=f"{name}/{Path(weights).name}", cls=cls)


def untrained_tower(backbones: BackboneSettings) -> VisionTower:
    """Build the tower that the settings name with fresh weights; on `meta` in no time.

    Raises:
        SettingsError, WeightsError: see `load_tower`; no weights are read.
    """
    name, cls = backbones.tower, backbones.tower_cls
    if name == TRANSFORMERS_TOWER:
        return VisionTower(transformers_tower(backbones.tower_weights), name=name, cls=cls)
    import open_clip

    config = tower_config(name)
    clip = open_clip.CLIP(
        embed_dim=config["embed_dim"],
        vision_cfg=dict(config["vision_cfg"]),
        text_cfg=_SMALLEST_TEXT,
        quick_gelu=bool(config.get("quick_gelu", False)),
    )
    return VisionTower(clip, name=name, cls=cls)


def tower_shape(backbones: BackboneSettings) -> TowerShape:
    """Return the sizes of the tower that the settings name, without loading weights.

    Those of a plain vision transformer of open_clip stand in its configuration; another tower is
    built without memory.

    Raises:
        SettingsError: an unknown name, a tower of no known layout, or one without [cls] that is
            asked for it.
        WeightsError: the configuration of a tower of transformers is missing or damaged.
    """
    if backbones.tower != TRANSFORMERS_TOWER and is_plain(config := tower_config(backbones.tower)):
        vision = config["vision_cfg"]
        return TowerShape(
            width=vision["width"],
            num_blocks=vision["layers"],
            image_size=vision["image_size"],
            num_grid_tokens=(vision["image_size"] // vision["patch_size"]) ** 2,
            output_width=config["embed_dim"],
        )
    with torch.device("meta"):
        return untrained_tower(backbones).shape


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
