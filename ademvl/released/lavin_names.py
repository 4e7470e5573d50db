"""Names of the trained tensors in LaVIN's released checkpoints, and ours: both ways.

Adapters stand there as convolutions over one place, so most of their weights have a last axis of 1.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from ademvl.released.reference_names import bare_name, by_our_name

_SINGLE = {
    "modality_table": "adapter_modality_embedding.weight",
    "cls_projection.down.weight": "adapter_proj.conv_A.weight",
    "cls_projection.down.bias": "adapter_proj.conv_A.bias",
    "cls_projection.up.weight": "adapter_proj.conv_B.weight",
    "cls_projection.up.bias": "adapter_proj.conv_B.bias",
}
_PLACES = {"layers": "layers", "clip_adapters": "backbone.visual.transformer.resblocks"}
_ROUTER = "expert_weights"
_ROUTED = {"down": "conv_A", "experts.0": "conv_B", "experts.1": "conv_D", "router": _ROUTER}
_PLAIN = {"down": "conv_A", "up": "conv_B"}
_OURS = re.compile(r"(layers|clip_adapters)\.(\d+)\.(down|experts\.[01]|router|up)\.(weight|bias)")
_THEIRS = re.compile(
    r"(layers|backbone\.visual\.transformer\.resblocks)\.(\d+)\.adapter_attn"
    r"\.(conv_[ABD]|expert_weights)\.(weight|bias)"
)


def released_name(name: str) -> str:
    """Return the released name of one of our tensors.

    Raises:
        ValueError: no such tensor exists there.
    """
    if name in _SINGLE:
        return _SINGLE[name]
    match = _OURS.fullmatch(name)
    if match is None:
        raise ValueError(f"LaVIN's released code has no tensor for {name!r}")
    place, number, part, kind = match.groups()
    return f"{_PLACES[place]}.{number}.adapter_attn.{(_ROUTED | _PLAIN)[part]}.{kind}"


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a method's tensors as in the released checkpoints; views of the same memory."""
    return {
        released_name(name): tensor.unsqueeze(-1) if _is_convolution(name) else tensor
        for name, tensor in state.items()
    }


def from_released(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Rename the tensors of a released checkpoint, with or without a leading `module.`.

    Raises:
        WeightsError: lists names that LaVIN's checkpoints do not have, or of one tensor.
    """
    matches = [_THEIRS.fullmatch(bare_name(name)) for name in state]
    routed = {match[1] for match in matches if match is not None and match[3] == _ROUTER}
    named = by_our_name(state, lambda name: _our_name(name, routed), source=source)
    return {
        name: tensor.squeeze(-1) if _is_convolution(name) else tensor
        for name, tensor in named.items()
    }


def _our_name(name: str, routed: set[str]) -> str | None:
    """Return our name of a released tensor, None for what is not trained.

    Args:
        name: with or without prefixes.
        routed: places, of `_PLACES`, whose adapters have routers.
    """
    name = bare_name(name)
    if name in _SINGLE.values():
        return next(ours for ours, theirs in _SINGLE.items() if theirs == name)
    match = _THEIRS.fullmatch(name)
    if match is None:
        return None
    place, number, part, kind = match.groups()
    parts = {theirs: ours for ours, theirs in (_ROUTED if place in routed else _PLAIN).items()}
    if part not in parts:
        return None
    ours = next(ours for ours, theirs in _PLACES.items() if theirs == place)
    return f"{ours}.{number}.{parts[part]}.{kind}"


def _is_convolution(name: str) -> bool:
    """Say of our name of a tensor whether it is a convolution's weight there."""
    match = _OURS.fullmatch(name)
    return match is not None and match[3] != "router" and match[4] == "weight"
