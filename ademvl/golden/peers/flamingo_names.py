"""Names of the trained tensors in OpenFlamingo's modules, and ours."""

import re
from collections.abc import Mapping

from torch import Tensor

_FEED_FORWARD = {"norm": "0", "up": "1", "down": "3"}
"""Their feed-forwards are lists of modules; 2 is the activation."""


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors of the whole method, of the resampler or of one block as OpenFlamingo does."""
    return {_released_name(name): tensor for name, tensor in state.items()}


def from_released(state: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename recorded tensors as those of a module; names that it does not have stay.

    Args:
        state: by OpenFlamingo's names.
        ours: the module's own tensors.
    """
    names = {_released_name(name): name for name in ours}
    return {names.get(name, name): tensor for name, tensor in state.items()}


def _released_name(name: str) -> str:
    name = re.sub(r"^blocks\.", "gated_cross_attn_layers.", name)
    is_of_resampler = re.search(r"\blayers\.\d+\.", name) is not None
    for part, theirs in _FEED_FORWARD.items():
        inside = f"1.{theirs}" if is_of_resampler else f"ff.{theirs}"
        name = name.replace(f"feed_forward.{part}.", f"{inside}.")
    name = name.replace("feed_forward_gate", "ff_gate").replace("attention_gate", "attn_gate")
    name = name.replace("attention_norm.", "attn.norm.")
    if is_of_resampler:
        return re.sub(r"(layers\.\d+)\.(?:attention\.)?(norm_|to_)", r"\1.0.\2", name)
    return name.replace("attention.to_", "attn.to_")
