"""Protects the names of LaVIN's released checkpoints, in both directions."""

import pytest
import torch

from ademvl.errors import WeightsError
from ademvl.released.lavin_names import from_released, released_name, to_released

BLOCK = "backbone.visual.transformer.resblocks.0.adapter_attn"
SHARED = {
    "modality_table": ("adapter_modality_embedding.weight", (2, 6)),
    "cls_projection.down.weight": ("adapter_proj.conv_A.weight", (3, 4)),
    "cls_projection.up.bias": ("adapter_proj.conv_B.bias", (6,)),
    "layers.1.down.weight": ("layers.1.adapter_attn.conv_A.weight", (2, 6, 1)),
    "layers.1.experts.1.weight": ("layers.1.adapter_attn.conv_D.weight", (6, 1, 1)),
    "layers.1.router.weight": ("layers.1.adapter_attn.expert_weights.weight", (2, 6)),
}
IN_TOWER = {
    "routed": {
        "clip_adapters.0.experts.0.weight": (f"{BLOCK}.conv_B.weight", (4, 1, 1)),
        "clip_adapters.0.router.bias": (f"{BLOCK}.expert_weights.bias", (2,)),
    },
    "plain": {"clip_adapters.0.up.weight": (f"{BLOCK}.conv_B.weight", (4, 1, 1))},
}


@pytest.mark.parametrize("kind", IN_TOWER)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_and_shapes_correspond(kind, prefix):
    names = SHARED | IN_TOWER[kind]
    theirs = {name: torch.rand(shape) for name, shape in names.values()}
    ours = from_released({prefix + name: t for name, t in theirs.items()}, source="file")
    assert ours.keys() == names.keys()
    assert ours["layers.1.down.weight"].shape == (2, 6)
    back = to_released(ours)
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_foreign_tensors_are_listed():
    with pytest.raises(WeightsError, match=r"file: tensors not known.*\n.*adapter_emb1"):
        from_released({"adapter_emb1": torch.zeros(1)}, source="file")
    one = {"adapter_proj.conv_A.bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match="several tensors of one name"):
        from_released(one | {f"module.{name}": t for name, t in one.items()}, source="file")
    with pytest.raises(ValueError, match="no tensor for 'key_table'"):
        released_name("key_table")
