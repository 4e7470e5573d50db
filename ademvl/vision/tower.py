"""The frozen vision tower: the penultimate block's tokens of any CLIP that open_clip builds."""

import hashlib
import logging
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.methods.tower_adapters import AdaptedMlp, ClipAdapter, DropoutSeeds
from ademvl.storage.files import read_json

_OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")
_ACTIVATIONS = {False: "GELU", True: "QuickGELU"}
MINI_CLIP_DIR = Path(__file__).parents[1] / "backbones" / "weights" / "mini_clip"


@dataclass(frozen=True)
class TowerShape:
    """Sizes of a tower, known without its weights.

    Attributes:
        width: C, of each token.
        num_blocks: residual blocks, the last one included, which never runs.
        image_size: pixels of the square input's side.
        num_grid_tokens: G, patches of an image.
    """

    width: int
    num_blocks: int
    image_size: int
    num_grid_tokens: int


class VisionTower(nn.Module):
    """Encodes pixels: all blocks but the last, then ln_post over all tokens, no projection.

    Weights are frozen and stay in evaluation mode. LayerNorms run in fp32, under autocast too.

    Args:
        clip: model of open_clip with a vision transformer in `visual`.
        name: architecture, for the fingerprint.

    Raises:
        SettingsError: the model's vision part is no plain transformer.
    """

    def __init__(self, clip: nn.Module, *, name: str) -> None:
        super().__init__()
        visual = _require_transformer(clip, name)
        self.visual = visual.eval().requires_grad_(False)
        grid_size, image_size = visual.grid_size, visual.image_size
        if grid_size[0] != grid_size[1] or isqrt(grid_size[0] * grid_size[1]) != grid_size[0]:
            raise SettingsError(f"backbones.tower: {name} has a grid of {grid_size}, not a square")
        self.shape = TowerShape(
            width=visual.ln_post.normalized_shape[0],
            num_blocks=len(visual.transformer.resblocks),
            image_size=image_size[0] if isinstance(image_size, tuple) else image_size,
            num_grid_tokens=grid_size[0] * grid_size[1],
        )
        if self.shape.num_blocks < 2:
            raise SettingsError(f"backbones.tower: {name} has fewer than two blocks")
        self.name = name
        self.adapters = nn.ModuleDict()
        self._dropout_seeds = DropoutSeeds()
        # References, not copies: the tensors are frozen, and attached adapters must not change
        # the fingerprint.
        self._frozen_state = tuple(visual.state_dict(keep_vars=True).items())

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
        for key, tensor in self._frozen_state:
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(memoryview(raw.numpy()))
        activation = self._frozen_activation()
        return f"{self.name} {activation} sha256:{digest.hexdigest()}"

    def _frozen_activation(self) -> str:
        mlp = self.visual.transformer.resblocks[0].mlp
        original = mlp.original if isinstance(mlp, AdaptedMlp) else mlp
        return type(original.gelu).__name__

    def encode(self, pixels: Tensor, *, dropout_seeds: Sequence[int] | None = None) -> Tensor:
        """Return the features of images.

        Args:
            pixels: (B, 3, H, W), normalised, H = W = `image_size`.
            dropout_seeds: one for each image, for the adapters in training; None in evaluation.

        Returns:
            (B, 1 + G, C): [cls] first, then the grid row by row.

        Raises:
            ValueError: the pixels' size is not the tower's.
        """
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"pixels of {tuple(pixels.shape[-2:])}, the tower wants {self.image_size} squared"
            )
        self._dropout_seeds.rows = dropout_seeds
        try:
            output = self.visual.forward_intermediates(
                pixels,
                indices=[self.shape.num_blocks - 2],
                stop_early=True,
                normalize_intermediates=True,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
        finally:
            self._dropout_seeds.rows = None
        prefix, grid = output["image_intermediates_prefix"][0], output["image_intermediates"][0]
        return torch.cat((prefix, grid), dim=1)  # (B, 1 + G, C)

    def attach_adapters(self, settings: ClipAdapterSettings) -> nn.ModuleDict:
        """Put a bottleneck adapter beside each block's MLP; return them by block number.

        Paper: arXiv 2410.17779; reference implementation: the adapters of all blocks exist, that
        of the last one never runs (`last_block` leaves it out).

        Raises:
            SettingsError: adapters are attached already.
        """
        if self.adapters:
            raise SettingsError(f"backbones.tower: {self.name} has adapters attached already")
        self.adapters = build_clip_adapters(settings, self.shape)
        blocks = self.visual.transformer.resblocks
        for number, adapter in enumerate(self.adapters.values()):
            block = blocks[number]
            block.mlp = AdaptedMlp(block.mlp, adapter, self._dropout_seeds, block=number)
        return self.adapters

    def initialize_adapters(self, seed: int) -> None:
        """Draw the adapters anew; each depends on `seed` and its block only."""
        for block, adapter in self.adapters.items():
            if isinstance(adapter, ClipAdapter):
                adapter.initialize(seed, block)

    def detach_adapters(self) -> None:
        """Put the blocks' own MLPs back: the tower is bit-identical to what it was."""
        for block in self.visual.transformer.resblocks:
            if isinstance(block.mlp, AdaptedMlp):
                block.mlp = block.mlp.original
        self.adapters = nn.ModuleDict()


def build_clip_adapters(settings: ClipAdapterSettings, shape: TowerShape) -> nn.ModuleDict:
    """Build uninitialised adapters for a tower's blocks, by block number."""
    num_adapters = shape.num_blocks if settings.last_block else shape.num_blocks - 1
    return nn.ModuleDict(
        {str(i): ClipAdapter(settings, tower_width=shape.width) for i in range(num_adapters)}
    )


def load_tower(backbones: BackboneSettings) -> VisionTower:
    """Load the tower that the settings name, with its weights.

    Raises:
        SettingsError: an unknown name, or an activation that the weights were not trained with.
        WeightsError: the weights are missing or damaged.
    """
    if backbones.tower == "mini":
        from ademvl.backbones.mini_clip import load_mini_clip

        return VisionTower(load_mini_clip(MINI_CLIP_DIR), name="mini")
    import open_clip
    from safetensors import SafetensorError

    name, weights = backbones.tower, backbones.tower_weights
    tower_shape(backbones)
    if not weights:
        raise SettingsError(
            f"backbones.tower_weights: empty, but {name} needs a pretrained tag "
            f"{open_clip.list_pretrained_tags_by_model(name)} or a file"
        )
    has_openai_format = is_torchscript(Path(weights))
    _check_activation(name, weights, has_openai_format=has_openai_format)
    try:
        if has_openai_format:
            logging.getLogger().addFilter(_is_no_word_of_random_weights)
            clip = open_clip.create_model(name)
            clip.load_state_dict(_torchscript_weights(Path(weights)))
        else:
            clip = open_clip.create_model(name, pretrained=weights)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(
            f"backbones.tower_weights: {weights} cannot be loaded into {name}: {error}"
        ) from error
    return VisionTower(clip, name=f"{name}/{Path(weights).name}")


def _is_no_word_of_random_weights(record: logging.LogRecord) -> bool:
    """Leave out what open_clip says of a model whose weights are set right afterwards."""
    return "initialized randomly" not in record.getMessage()


def is_torchscript(path: Path) -> bool:
    """Say whether a file is an archive of TorchScript, as OpenAI's CLIP releases are."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _torchscript_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a TorchScript archive, which torch loads without unpickling objects."""
    state: dict[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()
    # Sizes that OpenAI's releases keep beside the weights; open_clip knows them by the name.
    return {key: weight for key, weight in state.items() if key not in _OPENAI_SIZES}


def _check_activation(name: str, weights: str, *, has_openai_format: bool) -> None:
    """Refuse weights of another activation: open_clip only warns, and the features are wrong.

    Known are the tags of open_clip, and that OpenAI's own files are of QuickGELU.
    """
    import open_clip

    pretrained = open_clip.get_pretrained_cfg(name, weights)
    wanted = bool(pretrained.get("quick_gelu", False)) if pretrained else None
    if has_openai_format:
        wanted = True
    built = bool(_model_config(name).get("quick_gelu", False))
    if wanted is not None and wanted != built:
        other = f"{name}-quickgelu" if wanted else name.removesuffix("-quickgelu")
        raise SettingsError(
            f"backbones.tower: {name} computes {_ACTIVATIONS[built]}, but its weights {weights!r} "
            f"were trained with {_ACTIVATIONS[wanted]}; use {other}"
        )


def tower_shape(backbones: BackboneSettings) -> TowerShape:
    """Return the sizes of the tower that the settings name, without loading weights.

    Raises:
        SettingsError: an unknown name, or a tower that is no plain vision transformer.
    """
    if backbones.tower == "mini":
        remedy = "Reinstall the package, or run the rule mini_backbones."
        vision = read_json(MINI_CLIP_DIR / "config.json", remedy=remedy)["vision_cfg"]
    else:
        vision = _model_config(backbones.tower)["vision_cfg"]
    if "patch_size" not in vision or not isinstance(vision.get("layers"), int):
        raise SettingsError(f"backbones.tower: {backbones.tower} is no plain vision transformer")
    return TowerShape(
        width=vision["width"],
        num_blocks=vision["layers"],
        image_size=vision["image_size"],
        num_grid_tokens=(vision["image_size"] // vision["patch_size"]) ** 2,
    )


def load_openai_format(path: Path) -> VisionTower:
    """Load a state dict in the key names of OpenAI's CLIP releases; QuickGELU, cast to fp32.

    Args:
        path: safetensors file with vision and text weights; sizes are read off the tensors.

    Raises:
        WeightsError: the file is missing, damaged or has other keys.
    """
    from open_clip.model import build_model_from_openai_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        clip = build_model_from_openai_state_dict(
            load_file(path), quick_gelu=True, cast_dtype=torch.float32
        )
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{path}: no CLIP state dict in OpenAI's format: {error}") from error
    return VisionTower(clip.float(), name="openai")


def _model_config(name: str) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] | None = open_clip.get_model_config(name)
    if config is None:
        raise SettingsError(
            f"backbones.tower: open_clip knows no model {name!r}; see open_clip.list_models()"
        )
    return config


def _require_transformer(clip: nn.Module, name: str) -> Any:
    from open_clip.transformer import VisionTransformer

    visual = getattr(clip, "visual", None)
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None:
        raise SettingsError(
            f"backbones.tower: {name} is no plain vision transformer of open_clip "
            "(ViT with a class token and without attention pooling)"
        )
    return visual
