"""Weights of CLIPs in the layouts that are in use, loaded into the models that open_clip builds.

Known are open_clip's own (a pretrained tag or a file), OpenAI's TorchScript archives, and those of
transformers (`CLIPModel`, `CLIPVisionModel`), whose vision part alone is read. Nothing that is in a
file is executed.
"""

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ademvl.errors import SettingsError, WeightsError, list_findings
from ademvl.storage.files import read_json
from ademvl.storage.weight_files import SAFETENSORS_SUFFIX, read_weights
from ademvl.vision.tower_config import tower_config

_REMEDY = "Get the file again, or name other weights under backbones.tower_weights."
_OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")
_ACTIVATIONS = {False: "GELU", True: "QuickGELU"}
_FILES_OF_WEIGHTS = (".pt", ".pth", ".bin", SAFETENSORS_SUFFIX)

_VISION_PREFIX = "vision_model."  # releases 5 of transformers leave it out in CLIPVisionModel
_IS_TRANSFORMERS = "embeddings.patch_embedding.weight"
_PROJECTION = "visual_projection.weight"
_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.(.+)")
_TOP_NAMES = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm.weight": "ln_pre.weight",
    "pre_layrnorm.bias": "ln_pre.bias",
    "post_layernorm.weight": "ln_post.weight",
    "post_layernorm.bias": "ln_post.bias",
}
_BLOCK_NAMES = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_OF_TEXT = ("text_model.", "text_projection.", "logit_scale")
_POSITIONS = "embeddings.position_ids"
# Whatever open_clip, torch, safetensors and the network raise on files that are damaged or missing.
_UNLOADABLE = (
    *(RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError),
    *(pickle.UnpicklingError, SafetensorError),
)


def load_clip(name: str, weights: str) -> nn.Module:
    """Build a CLIP of open_clip and load its weights; of transformers' layout the vision part only.

    Args:
        name: architecture as open_clip calls it; `-quickgelu` at its end is another one.
        weights: a tag that open_clip downloads, or a file in one of the known layouts.

    Raises:
        SettingsError: no weights are named, or they were trained with another activation.
        WeightsError: the weights are missing or damaged, or do not fit.
    """
    import open_clip

    if not weights:
        raise SettingsError(
            f"backbones.tower_weights: empty, but {name} needs a pretrained tag "
            f"{open_clip.list_pretrained_tags_by_model(name)} or a file"
        )
    path = Path(weights)
    if path.is_dir():
        raise WeightsError(
            f"backbones.tower_weights: {weights} is a folder; name the file of weights in it, such "
            "as model.safetensors"
        )
    if is_torchscript(path):
        _check_activation(name, weights, is_quick=True)
        return _load_state(name, weights, _torchscript_weights(path))
    if path.is_file() and path.suffix in _FILES_OF_WEIGHTS:
        state = read_weights(path, remedy=_REMEDY)
        if isinstance(state, dict) and _is_of_transformers(state):
            _check_activation(name, weights, is_quick=_quick_gelu_beside(path))
            return _load_state(name, weights, _of_open_clip(state, weights), vision_only=True)
    pretrained = open_clip.get_pretrained_cfg(name, weights)
    is_quick = bool(pretrained.get("quick_gelu", False)) if pretrained else None
    _check_activation(name, weights, is_quick=is_quick)
    try:
        return open_clip.create_model(name, pretrained=weights)
    except _UNLOADABLE as error:
        raise _cannot_be_loaded(name, weights, error) from error


def _load_state(
    name: str, weights: str, state: Mapping[str, Tensor], *, vision_only: bool = False
) -> nn.Module:
    import open_clip

    logging.getLogger().addFilter(_is_no_word_of_random_weights)
    clip: nn.Module = open_clip.create_model(name)
    part: Any = clip.visual if vision_only else clip
    if vision_only and "proj" not in state:
        part.proj = None
    try:
        part.load_state_dict(state)
    except RuntimeError as error:
        raise _cannot_be_loaded(name, weights, error) from error
    return clip


def _cannot_be_loaded(name: str, weights: str, error: Exception) -> WeightsError:
    return WeightsError(f"backbones.tower_weights: {weights} cannot be loaded into {name}: {error}")


def _is_no_word_of_random_weights(record: logging.LogRecord) -> bool:
    """Leave out what open_clip says of a model whose weights are set right afterwards."""
    return "initialized randomly" not in record.getMessage()


def is_torchscript(path: Path) -> bool:
    """Say whether a file is an archive of TorchScript, as OpenAI's CLIP releases are."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _torchscript_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a TorchScript archive, which torch loads without unpickling objects."""
    try:
        state: dict[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()
    except (RuntimeError, OSError, ValueError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path}: cannot be read: {first_line}. {_REMEDY}") from error
    # Sizes that OpenAI's releases keep beside the weights; open_clip knows them by the name.
    return {key: weight for key, weight in state.items() if key not in _OPENAI_SIZES}


def _is_of_transformers(state: Mapping[Any, Any]) -> bool:
    return any(f"{prefix}{_IS_TRANSFORMERS}" in state for prefix in ("", _VISION_PREFIX))


def _quick_gelu_beside(path: Path) -> bool | None:
    """Return whether the config.json beside a file of transformers says QuickGELU.

    It is the default of its configurations. None where there is no such file.
    """
    file = path.with_name("config.json")
    if not file.is_file():
        return None
    config = read_json(file, remedy=_REMEDY)
    if not isinstance(config, dict) or not isinstance(config.get("vision_config", {}), dict):
        raise WeightsError(f"{file}: no configuration of a CLIP. {_REMEDY}")
    vision = config.get("vision_config", config)
    return bool(vision.get("hidden_act", "quick_gelu") == "quick_gelu")


def _of_open_clip(state: Mapping[str, Tensor], weights: str) -> dict[str, Tensor]:
    """Rename the vision weights of transformers as open_clip's; q, k and v become one tensor.

    Raises:
        WeightsError: lists tensors that a CLIP's vision part does not have, or lacks.
    """
    vision = {
        name.removeprefix(_VISION_PREFIX): tensor
        for name, tensor in state.items()
        if not name.startswith(_OF_TEXT) and not name.endswith(_POSITIONS)
    }
    found: dict[str, Tensor] = {}
    findings = []
    for name, tensor in vision.items():
        match = _BLOCK.fullmatch(name)
        at, (part, _, kind) = "", name.rpartition(".")
        if match:
            at, (part, _, kind) = f"transformer.resblocks.{match[1]}.", match[2].rpartition(".")
        if name in _TOP_NAMES:
            found[_TOP_NAMES[name]] = tensor
        elif name == _PROJECTION:
            found["proj"] = tensor.T
        elif match and part in _BLOCK_NAMES:
            found[f"{at}{_BLOCK_NAMES[part]}.{kind}"] = tensor
        elif match and part in _ATTENTION:
            names = [name.replace(part, other) for other in _ATTENTION]
            findings += [f"{other}: missing" for other in names if other not in vision]
            joined = [vision[other] for other in names if other in vision]
            found[f"{at}attn.in_proj_{kind}"] = torch.cat(joined)
        else:
            findings.append(f"{name}: not known")
    if findings:
        headline = f"{weights}: no vision part of a CLIP in the layout of transformers"
        raise WeightsError(list_findings(headline, list(dict.fromkeys(findings)), _REMEDY))
    return found


def _check_activation(name: str, weights: str, *, is_quick: bool | None) -> None:
    """Refuse weights of another activation: open_clip only warns, and the features are wrong.

    Known are the tags of open_clip, that OpenAI's own files are of QuickGELU, and what config.json
    says beside weights of transformers.
    """
    built = bool(tower_config(name).get("quick_gelu", False))
    if is_quick is not None and is_quick != built:
        other = f"{name}-quickgelu" if is_quick else name.removesuffix("-quickgelu")
        raise SettingsError(
            f"backbones.tower: {name} computes {_ACTIVATIONS[built]}, but its weights {weights!r} "
            f"were trained with {_ACTIVATIONS[is_quick]}; use {other}"
        )
