"""Protects LLaMA-Adapter V2: empty pictures, stages, and what it trains of the language model."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Phi3ForCausalLM

from ademvl.errors import SettingsError
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.llama_adapter_v2.visual import VisualBlock
from ademvl.model.build import build_model
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.vision.tower import load_tower
from tests import tiny
from tests.methods.tiny_models import (
    HAS_IMAGE,
    WIDTH,
    make_backbones,
    make_batch,
    make_llm,
    make_model,
    make_pixels,
)
from tests.random_decoders import random_decoder

FP32_TOLERANCE = 2e-5  # other order of sums, after two layers
SETTINGS = LlamaAdapterV2Settings(prompt_length=3, visual_width=8, visual_blocks=2, visual_heads=2)
PRETRAIN, FINETUNE = (replace(SETTINGS, stage=stage) for stage in ("pretrain", "finetune"))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


@torch.no_grad()
def test_rows_without_an_image_are_shown_an_empty_picture(backbones):
    model = make_model(SETTINGS, backbones)
    batch, pixels = make_batch(SETTINGS), make_pixels()
    logits = model.next_token_logits(batch, pixels)
    everything = torch.zeros(len(HAS_IMAGE), *pixels.shape[1:])
    everything[batch.has_image] = pixels
    shown = replace(batch, has_image=torch.ones_like(batch.has_image))
    expected = model.next_token_logits(shown, everything)
    torch.testing.assert_close(logits, expected, atol=FP32_TOLERANCE, rtol=0)
    text = make_batch(SETTINGS, [1, 4, 6])
    torch.testing.assert_close(
        model.next_token_logits(text, None), logits[[1, 4, 6]], atol=FP32_TOLERANCE, rtol=0
    )


@torch.no_grad()
def test_cached_features_equal_online_ones(backbones):
    tower, states = load_tower(backbones), SETTINGS.tower_states
    online = make_model(SETTINGS, backbones)
    cached = VisionLanguageModel(
        make_llm(), SETTINGS, tower_shape=tower.shape, empty_picture=tower.encode_empty(states)
    )
    cached.load_adapter_state_dict(online.adapter_state_dict(), source="online")
    batch, pixels = make_batch(SETTINGS), make_pixels()
    expected = online.next_token_logits(batch, pixels)
    assert torch.equal(cached.next_token_logits(batch, tower.encode(pixels, states)), expected)
    with pytest.raises(ValueError, match="empty_picture is needed"):
        VisionLanguageModel(make_llm(), SETTINGS, tower_shape=tower.shape)


@torch.no_grad()
def test_a_run_with_cached_features_has_the_same_empty_picture(tmp_path):
    run = tiny.make_run(tmp_path, method=SETTINGS)
    cached, online = (
        build_model(replace(run, features=replace(run.features, mode=mode))).eval()
        for mode in ("cached", "online")
    )
    online.method.gates["1"].fill_(1.0)
    cached.load_adapter_state_dict(online.adapter_state_dict(), source="online")
    text = make_batch(SETTINGS, [1, 4])
    expected = online.next_token_logits(text, None)
    assert torch.equal(cached.next_token_logits(text, None), expected)


def test_each_stage_trains_its_own_part(backbones):
    names = {
        settings.stage: set(make_model(settings, backbones).adapter_state_dict())
        for settings in (SETTINGS, PRETRAIN, FINETUNE)
    }
    assert names["pretrain"] | names["finetune"] == names["both"]
    assert not names["pretrain"] & names["finetune"]
    parts = {name.partition(".")[0] for name in names["pretrain"]}
    assert parts == {"visual", "prompts", "gates"}
    assert {name.partition(".")[0] for name in names["finetune"]} == {"biases", "norms"}


@torch.no_grad()
def test_second_stage_is_a_language_model_with_other_norms_and_biases(backbones):
    model = make_model(FINETUNE, backbones)
    batch, tuned = make_batch(FINETUNE), make_llm()
    state = model.adapter_state_dict()
    for number, layer in enumerate(tuned.model.layers):
        for name in ("input_layernorm", "post_attention_layernorm"):
            getattr(layer, name).weight += state.pop(f"norms.{number}.{name}")
        for name in ("q_proj", "o_proj"):
            matrix = getattr(layer.self_attn, name)
            matrix.bias = nn.Parameter(state.pop(f"biases.{number}.{name}"))
        for name in ("gate_proj", "up_proj", "down_proj"):
            getattr(layer.mlp, name).bias = nn.Parameter(state.pop(f"biases.{number}.{name}"))
    tuned.model.norm.weight += state.pop("norms.final.norm")
    assert not state
    expected = tuned.model(inputs_embeds=tuned.get_input_embeddings()(batch.input_ids))
    states = model.hidden_states(batch, make_pixels())
    torch.testing.assert_close(
        states, expected.last_hidden_state, atol=FP32_TOLERANCE, rtol=FP32_TOLERANCE
    )


@torch.no_grad()
def test_visual_blocks_are_those_of_a_vision_transformer():
    block = VisualBlock(width=8, heads=2, mlp_ratio=3)
    torchs = nn.TransformerEncoderLayer(
        8, 2, 24, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    theirs = [
        *("self_attn.in_proj_weight", "self_attn.in_proj_bias"),
        *("self_attn.out_proj.weight", "self_attn.out_proj.bias"),
        *("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"),
        *("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"),
    ]
    ours = [
        f"{part}.{kind}" for part in ("qkv", "proj", "fc1", "fc2") for kind in ("weight", "bias")
    ]
    ours += [f"{part}.{kind}" for part in ("norm1", "norm2") for kind in ("weight", "bias")]
    state = torchs.state_dict()
    state = {
        name: torch.randn(state[name].shape, generator=torch.Generator().manual_seed(len(name)))
        for name in theirs
    }
    torchs.load_state_dict(state)
    block.load_state_dict({one: state[other] for one, other in zip(ours, theirs, strict=True)})
    tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block(tokens), torchs(tokens), atol=1e-5, rtol=1e-5)


def test_initial_values_are_those_of_the_released_code(backbones):
    model = make_model(replace(SETTINGS, visual_width=64, prompt_length=40), backbones)
    model.initialize(3)
    state = model.adapter_state_dict()
    zero = {name for name, values in state.items() if not values.any()}
    assert zero == {
        name
        for name in state
        if name.startswith(("gates.", "biases.", "norms.")) or ("norm" in name and "bias" in name)
    }
    # 2,560 normal values: their deviation scatters by 1.4 %.
    assert abs(float(state["visual.queries"].std()) - 1) < 0.07
    weights = state["visual.blocks.0.qkv.weight"]
    assert 0.95 < float(weights.abs().max()) * 64**0.5 <= 1
    assert torch.equal(state["visual.norm.weight"], torch.ones(WIDTH))
    assert torch.equal(F.relu(state["visual.blocks.1.norm2.weight"]), torch.ones(64))


def test_gates_of_layers_without_prompts_are_unused(backbones):
    assert make_model(SETTINGS, backbones).method.unused() == {"gates.0"}
    assert not make_model(replace(SETTINGS, first_layer=0), backbones).method.unused()
    assert not make_model(FINETUNE, backbones).method.unused()


def test_norms_and_biases_do_not_decay(backbones):
    method = make_model(SETTINGS, backbones).method
    spared = {name for name, p in method.named_parameters() if not method.decays(name, p)}
    assert {
        name for name in dict(method.named_parameters()) if name.startswith("gates.")
    }.isdisjoint(spared)
    assert all("bias" in name or "norm" in name for name in spared)
    assert {"norms.final.norm", "biases.1.up_proj", "visual.blocks.0.qkv.bias"} <= spared


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(SettingsError, match="visual_width: 9, expected a multiple of visual_heads"):
        replace(SETTINGS, visual_width=9)


def test_other_layouts_are_refused_and_left_as_they_were(backbones):
    llm = random_decoder(Phi3ForCausalLM, width=WIDTH, heads=4, pad_token_id=0)
    tower = load_tower(backbones)
    for _ in range(2):  # no method stays attached
        with pytest.raises(SettingsError, match=r"no model\.layers\.0\.mlp\.gate_proj"):
            VisionLanguageModel(llm, FINETUNE, tower)


@torch.no_grad()
def test_works_in_half_precision(backbones):
    whole, half = make_model(SETTINGS, backbones), make_model(SETTINGS, backbones)
    half.llm.bfloat16()
    batch, pixels = make_batch(SETTINGS), make_pixels()
    logits = half.next_token_logits(batch, pixels)
    assert logits.dtype == torch.bfloat16
    expected = whole.next_token_logits(batch, pixels)
    # 8 bits, after two layers
    torch.testing.assert_close(
        logits.float(), expected, atol=0.05 * float(expected.abs().max()), rtol=0
    )
