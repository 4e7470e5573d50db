"""Protects the names of the authors' checkpoints, in both directions."""

import pytest
import torch
from safetensors.torch import load_file

from ademvl.errors import WeightsError
from ademvl.released.reference_names import from_reference, our_name, reference_name, to_reference


def test_round_trip_of_a_reference_adapter(golden_dir):
    theirs = load_file(golden_dir / "models" / "adapter_init.safetensors")
    ours = from_reference(theirs, source="adapter_init")
    back = to_reference(ours)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)
    assert ours["key_table"].ndim == 2


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("adapter_emb1", "key_table"),
        ("adapter_emb2", "value_table"),
        ("adapter_proj.fc1.weight", "grid_projection.down.weight"),
        ("adapter_proj_cls.fc2.bias", "cls_projection.up.bias"),
        (
            "backbone.visual.transformer.resblocks.23.adapter_mlp.fc2.weight",
            "clip_adapters.23.up.weight",
        ),
    ],
)
def test_names_correspond(theirs, ours):
    assert our_name(theirs) == our_name(f"module.{theirs}") == ours
    assert reference_name(ours) == theirs


def test_foreign_tensors_are_listed():
    state = {"adapter_emb1": torch.zeros(1, 2, 3), "lm_head.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"file: tensors not known.*\n.*lm_head\.weight"):
        from_reference(state, source="file")
    with pytest.raises(ValueError, match="no tensor"):
        reference_name("lora.weight")
