"""Protects loading: precision, freezing, clear errors, and what identifies a model."""

import shutil
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, WeightsError
from ademvl.llm.loading import fingerprint_llm, load_llm
from ademvl.methods.sites import Attachment, attach_sites
from tests import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make_llm(tmp_path_factory.mktemp("llm"))


def test_weights_have_the_precision_asked_for_and_are_frozen(folder):
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        llm = load_llm(BackboneSettings(llm=str(folder), precision=precision))
        assert {parameter.dtype for parameter in llm.parameters()} == {dtype}
        assert not any(parameter.requires_grad for parameter in llm.parameters())
        assert not llm.training


def test_the_shipped_model_loads_as_fp32():
    llm = load_llm(BackboneSettings())
    assert llm.dtype == torch.float32
    assert all(parameter.isfinite().all() for parameter in llm.parameters())


def test_fingerprint_tells_models_apart_and_ignores_a_method(folder, tmp_path):
    llm = load_llm(BackboneSettings(llm=str(folder)))
    fingerprint = fingerprint_llm(llm)
    attach_sites(llm, Attachment(), {"mhsa_in": range(2), "mlp_out": range(2)})
    assert fingerprint_llm(llm) == fingerprint
    other = load_llm(BackboneSettings(llm=str(tiny.make_llm(tmp_path, seed=1))))
    assert fingerprint_llm(other).sampled_sha256 != fingerprint.sampled_sha256
    assert fingerprint_llm(other).architecture == fingerprint.architecture


def test_missing_and_damaged_models_are_named(folder, tmp_path):
    with pytest.raises(WeightsError, match="nowhere"):
        load_llm(BackboneSettings(llm=str(tmp_path / "nowhere")))
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="broken"):
        load_llm(BackboneSettings(llm=str(broken)))


def test_incomplete_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    partial = shutil.copytree(folder, tmp_path / "partial")
    state = load_file(partial / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 weights, first model\.layers\.1\.mlp"):
        load_llm(BackboneSettings(llm=str(partial)))


def test_models_that_change_their_logits_are_refused(tmp_path):
    config = LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1,
    )  # fmt: skip
    config.final_logit_softcapping = 30.0
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(SettingsError, match=r"final_logit_softcapping = 30\.0"):
        load_llm(BackboneSettings(llm=str(tmp_path)))


def test_of_a_gemma_3_that_sees_images_the_decoder_is_taken(tmp_path):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 20, "intermediate_size": 8, "num_key_value_heads": 2}
    config = Gemma3Config(
        text_config={**text, "head_dim": 4},
        vision_config={**sizes, "intermediate_size": 8, "image_size": 8, "patch_size": 4},
        mm_tokens_per_image=4,
        image_token_id=19,
    )
    whole = Gemma3ForConditionalGeneration(config).eval()
    whole.save_pretrained(tmp_path)
    llm = load_llm(BackboneSettings(llm=str(tmp_path)))
    attach_sites(llm, Attachment(), {"mlp_out": range(1)})
    assert not any("vision" in name for name, _ in llm.named_parameters())
    assert llm.get_output_embeddings().weight is llm.get_input_embeddings().weight
    token_ids = torch.tensor([[1, 5, 7]])
    expected = whole(token_ids).logits
    states = load_llm(BackboneSettings(llm=str(tmp_path))).model(token_ids).last_hidden_state
    torch.testing.assert_close(llm.get_output_embeddings()(states), expected)


MEASURED = """
import sys
from pathlib import Path
import torch, transformers
from transformers import AutoModelForCausalLM
from transformers.models.llama import modeling_llama
from ademvl.config.run import BackboneSettings
from ademvl.llm.loading import load_llm

def memory_mib(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024

load_llm(BackboneSettings(llm=sys.argv[1], precision="bf16"))  # what is imported on the way
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = memory_mib("VmRSS")
llm = load_llm(BackboneSettings(llm=sys.argv[2], precision="bf16"))
print(memory_mib("VmHWM") - before)
"""


@pytest.mark.slow
def test_weights_are_loaded_in_their_dtype_without_a_copy_in_another(folder, tmp_path):
    config = LlamaConfig(
        vocab_size=4000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=8,
        num_attention_heads=8,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder), str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    stored_mib = (tmp_path / "model.safetensors").stat().st_size / 2**20
    ratio = float(process.stdout.split()[-1]) / stored_mib
    print(f"peak {ratio:.2f} of the {stored_mib:.0f} MiB in fp32 on disk")
    # The mapped file, and half of it as bf16; a copy in fp32 would take 2.5.
    assert ratio < 1.9
