"""Names of the trained tensors in the authors' checkpoints, and ours: both ways."""

import re
from collections import Counter
from collections.abc import Callable, Mapping

from torch import Tensor

from ademvl.errors import WeightsError, list_findings

_TABLES = {"key_table": "adapter_emb1", "value_table": "adapter_emb2"}
_PARTS = {"grid_projection": "adapter_proj", "cls_projection": "adapter_proj_cls"}
_LAYERS = {"down": "fc1", "up": "fc2"}
DISTRIBUTED_PREFIX = "module."  # written by distributed training
_PREFIXES = (DISTRIBUTED_PREFIX, "_orig_mod.")  # the latter by torch.compile
_CLIP_ADAPTER = re.compile(
    r"backbone\.visual\.transformer\.resblocks\.(\d+)\.adapter_mlp\.(fc[12])\.weight"
)
_PROJECTION = re.compile(r"(adapter_proj|adapter_proj_cls)\.(fc[12])\.(weight|bias)")


def reference_name(name: str) -> str:
    """Return the reference's name of one of our tensors.

    Raises:
        ValueError: no such tensor exists there.
    """
    if name in _TABLES:
        return _TABLES[name]
    part, *rest = name.split(".")
    if part in _PARTS and len(rest) == 2 and rest[0] in _LAYERS:
        return f"{_PARTS[part]}.{_LAYERS[rest[0]]}.{rest[1]}"
    if part == "clip_adapters" and len(rest) == 3 and rest[1] in _LAYERS:
        block = f"backbone.visual.transformer.resblocks.{rest[0]}"
        return f"{block}.adapter_mlp.{_LAYERS[rest[1]]}.{rest[2]}"
    raise ValueError(f"the reference has no tensor for {name!r}")


def our_name(name: str) -> str | None:
    """Return our name of one of the reference's tensors, None for what is not trained."""
    name = bare_name(name)
    layers = {theirs: ours for ours, theirs in _LAYERS.items()}
    for ours, theirs in _TABLES.items():
        if name == theirs:
            return ours
    if match := _PROJECTION.fullmatch(name):
        part = next(ours for ours, theirs in _PARTS.items() if theirs == match[1])
        return f"{part}.{layers[match[2]]}.{match[3]}"
    if match := _CLIP_ADAPTER.fullmatch(name):
        return f"clip_adapters.{match[1]}.{layers[match[2]]}.weight"
    return None


def bare_name(name: str) -> str:
    """Return a tensor's name without what distributed training and torch.compile put before it."""
    while prefix := next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""):
        name = name.removeprefix(prefix)
    return name


def to_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an adapter's tensors as in the reference's checkpoints; tables get a leading 1."""
    return {
        reference_name(name): tensor.unsqueeze(0) if name in _TABLES else tensor
        for name, tensor in state.items()
    }


def from_reference(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Rename the tensors of a reference checkpoint, with or without a leading `module.`.

    Raises:
        WeightsError: lists names that the reference's adapters do not have, or of one tensor.
    """
    return {
        name: tensor.squeeze(0) if name in _TABLES else tensor
        for name, tensor in by_our_name(state, our_name, source=source).items()
    }


def by_our_name(
    state: Mapping[str, Tensor], our_name: Callable[[str], str | None], *, source: str
) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by the names that they have here.

    Args:
        state: by their names there.
        our_name: of one of theirs; None for what is not trained.
        source: where they come from, for the error.

    Raises:
        WeightsError: lists names that are not known, or of one tensor.
    """
    named = {name: our_name(name) for name in state}
    unknown = [name for name, ours in named.items() if ours is None]
    if unknown:
        remedy = "Expected the `model` entry of a checkpoint that the authors' code wrote."
        raise WeightsError(list_findings(f"{source}: tensors not known", unknown, remedy))
    counts = Counter(named.values())
    if twice := [name for name, ours in named.items() if counts[ours] > 1]:
        remedy = "Remove the prefixes of their names, and those that are there twice."
        raise WeightsError(list_findings(f"{source}: several tensors of one name", twice, remedy))
    return {ours: state[name] for name, ours in named.items() if ours is not None}
