"""Names of the trained tensors in MemVP's released checkpoints, and ours: both ways.

They are those of ADEM-VL's authors, who built upon MemVP's code, and a table of modalities.
"""

from collections.abc import Mapping

from torch import Tensor

from ademvl.released.reference_names import bare_name, from_reference, to_reference

_MODALITIES = {"modality_table": "adapter_modality_embedding.weight"}


def to_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a method's tensors as in the released checkpoints; tables get a leading 1."""
    rest = {name: tensor for name, tensor in state.items() if name not in _MODALITIES}
    modalities = {theirs: state[ours] for ours, theirs in _MODALITIES.items() if ours in state}
    return to_reference(rest) | modalities


def from_released(state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Rename the tensors of a released checkpoint, with or without a leading `module.`.

    Raises:
        WeightsError: lists names that MemVP's checkpoints do not have.
    """
    named = {bare_name(name): tensor for name, tensor in state.items()}
    modalities = {
        ours: named.pop(theirs) for ours, theirs in _MODALITIES.items() if theirs in named
    }
    return from_reference(named, source=source) | modalities
