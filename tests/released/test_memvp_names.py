"""Protects the names of MemVP's released checkpoints, in both directions."""

import pytest
import torch

from ademvl.errors import WeightsError
from ademvl.released.memvp_names import from_released, to_released

NAMES = {
    "key_table": "adapter_emb1",
    "value_table": "adapter_emb2",
    "grid_projection.down.weight": "adapter_proj.fc1.weight",
    "grid_projection.up.bias": "adapter_proj.fc2.bias",
    "modality_table": "adapter_modality_embedding.weight",
    "clip_adapters.0.down.weight": (
        "backbone.visual.transformer.resblocks.0.adapter_mlp.fc1.weight"
    ),
}


def test_names_correspond_and_tables_have_a_leading_one():
    ours = {name: torch.full((2, 3), float(number)) for number, name in enumerate(NAMES)}
    theirs = to_released(ours)
    assert {name: theirs[NAMES[name]].flatten()[0] for name in NAMES} == {
        name: tensor.flatten()[0] for name, tensor in ours.items()
    }
    assert theirs["adapter_emb1"].shape == (1, 2, 3)
    for prefix in ("", "module."):
        back = from_released({prefix + name: t for name, t in theirs.items()}, source="file")
        assert back.keys() == ours.keys()
        assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_foreign_tensors_are_listed():
    with pytest.raises(WeightsError, match=r"file: tensors not known.*\n.*lm_head\.weight"):
        from_released({"lm_head.weight": torch.zeros(1)}, source="file")
