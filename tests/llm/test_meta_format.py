"""Protects the import of Meta's layout: shards, the order of q and k, and clear errors."""

import json
import shutil

import pytest
import torch

from ademvl.config.run import BackboneSettings
from ademvl.errors import WeightsError
from ademvl.llm.loading import load_llm
from ademvl.llm.meta_format import load_meta_llama
from ademvl.llm.source import is_meta_folder


@pytest.fixture(scope="module")
def weights_dir(golden_dir):
    return golden_dir / "models" / "weights"


def test_one_and_two_shards_give_the_same_model(weights_dir):
    one, two = (
        load_llm(BackboneSettings(llm=str(weights_dir / name))).state_dict()
        for name in ("7B", "13B")
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_rotary_pairs_become_halves(weights_dir):
    meta = torch.load(weights_dir / "7B" / "consolidated.00.pth", weights_only=True)
    llm = load_meta_llama(weights_dir / "7B", dtype=torch.float32)
    head_dim = llm.config.head_dim
    layer = llm.model.layers[0].self_attn
    for name, ours in (("wq", layer.q_proj.weight), ("wk", layer.k_proj.weight)):
        theirs = meta[f"layers.0.attention.{name}.weight"]
        for head in range(llm.config.num_attention_heads):
            first = head * head_dim
            for pair in range(head_dim // 2):
                even, odd = theirs[first + 2 * pair], theirs[first + 2 * pair + 1]
                assert torch.equal(ours[first + pair], even)
                assert torch.equal(ours[first + pair + head_dim // 2], odd)
    assert torch.equal(layer.v_proj.weight, meta["layers.0.attention.wv.weight"])


def test_only_complete_folders_count_as_meta_layout(weights_dir, tmp_path):
    assert is_meta_folder(weights_dir / "13B")
    assert not is_meta_folder(weights_dir)
    assert not is_meta_folder(tmp_path)


def test_a_missing_shard_is_named(weights_dir, tmp_path):
    partial = shutil.copytree(weights_dir / "13B", tmp_path / "13B")
    (partial / "consolidated.01.pth").unlink()
    with pytest.raises(
        WeightsError, match=r"consolidated\.01\.pth: missing; 2 shards make the model"
    ):
        load_meta_llama(partial, dtype=torch.float32)


def test_a_truncated_shard_is_named(weights_dir, tmp_path):
    broken = shutil.copytree(weights_dir / "7B", tmp_path / "7B")
    shard = broken / "consolidated.00.pth"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"consolidated\.00\.pth"):
        load_meta_llama(broken, dtype=torch.float32)


def test_incomplete_params_are_named(weights_dir, tmp_path):
    broken = shutil.copytree(weights_dir / "7B", tmp_path / "7B")
    params = json.loads((broken / "params.json").read_text())
    del params["n_heads"]
    (broken / "params.json").write_text(json.dumps(params))
    with pytest.raises(WeightsError, match="n_heads is missing"):
        load_meta_llama(broken, dtype=torch.float32)
