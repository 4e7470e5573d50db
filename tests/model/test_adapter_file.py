"""Protects the adapter file: what it holds, and that it loads into its own model only."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from ademvl.config.run import BackboneSettings
from ademvl.errors import WeightsError
from ademvl.model.adapter_file import load_adapter, save_adapter
from ademvl.model.build import build_model
from ademvl.runs.adapter_folder import adapter_checksum, check_settings
from tests import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def saved(run, tmp_path):
    model = build_model(run)
    save_adapter(tmp_path / "adapter", model, run)
    return tmp_path / "adapter", model


def test_a_saved_adapter_loads_bit_for_bit(run, saved):
    folder, model = saved
    other = build_model(replace(run, seed=1))
    assert not torch.equal(other.method.key_table, model.method.key_table)
    load_adapter(folder, other)
    state, loaded = model.adapter_state_dict(), other.adapter_state_dict()
    assert all(torch.equal(state[name], loaded[name]) for name in state)


def test_description_holds_settings_counts_and_fingerprints(run, saved):
    folder, _ = saved
    description = json.loads((folder / "adapter.json").read_text())
    weights = load_file(folder / "adapter.safetensors")
    assert description["parameters"] == {name: t.numel() for name, t in weights.items()}
    assert description["settings"]["method"]["scales"] == [16, 4]
    assert description["fingerprints"]["llm"]["architecture"].startswith("LlamaForCausalLM 2x32")
    assert description["fingerprints"]["tower"] is None
    assert description["sha256"] == adapter_checksum(folder)


def test_another_language_model_is_refused(run, saved, tmp_path):
    folder, _ = saved
    llm = tiny.make_llm(tmp_path / "llm", seed=1)
    backbones = replace(run.backbones, llm=str(llm))
    model = build_model(replace(run, backbones=backbones))
    before = model.adapter_state_dict()
    with pytest.raises(WeightsError, match="another language model: sampled_sha256"):
        load_adapter(folder, model)
    after = model.adapter_state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_same_model_in_another_precision_is_accepted(run, saved):
    folder, _ = saved
    backbones = replace(run.backbones, precision="bf16")
    load_adapter(folder, build_model(replace(run, backbones=backbones)))


def test_another_tower_is_refused(run, tmp_path):
    online = replace(run, features=replace(run.features, mode="online"))
    save_adapter(tmp_path / "adapter", build_model(online), online)
    weights = tiny.make_tower(tmp_path / "tower", seed=1)
    backbones: BackboneSettings = replace(run.backbones, tower_weights=str(weights))
    with pytest.raises(WeightsError, match="trained with the vision tower"):
        load_adapter(tmp_path / "adapter", build_model(replace(online, backbones=backbones)))


def test_damage_is_found(run, saved):
    folder, model = saved
    copy = shutil.copytree(folder, folder.parent / "copy")
    weights = copy / "adapter.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        load_adapter(copy, model)
    (copy / "adapter.json").unlink()
    with pytest.raises(WeightsError, match="no complete adapter"):
        load_adapter(copy, model)


def test_other_settings_are_refused(run, saved):
    folder, _ = saved
    method = replace(run.method, cls=False)
    with pytest.raises(WeightsError, match=r"cls_projection\.down\.weight: not part of this model"):
        load_adapter(folder, build_model(replace(run, method=method)))


def test_settings_that_the_adapter_was_not_trained_with_are_listed(run, saved):
    folder, _ = saved
    method = replace(run.method, alpha=1.0, gamma=0.6)
    prompts = replace(run.prompts, train_format="QCM-A")
    with pytest.raises(WeightsError) as raised:
        check_settings(folder, replace(run, method=method, prompts=prompts))
    for finding in (
        "method.alpha: 1.0, but the adapter was trained with 0.1",
        "method.gamma: 0.6, but the adapter was trained with 0.1",
        "prompts.train_format: 'QCM-A', but the adapter was trained with 'CQM-A'",
    ):
        assert finding in str(raised.value)


def test_settings_of_evaluation_and_places_may_differ(run, saved):
    folder, _ = saved
    changed = replace(
        run,
        method=replace(run.method, drop_in_evaluation=False),
        backbones=replace(run.backbones, llm="elsewhere", precision="bf16"),
        features=replace(run.features, cache_dir="elsewhere"),
        prompts=replace(run.prompts, evaluation="reference", evaluation_window=99),
    )
    check_settings(folder, changed)
