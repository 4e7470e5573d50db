"""Protects LoRA: peft computes it and loads it, dropout is by row, and LLaVA-LoRA's vectors."""

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from peft.utils import set_peft_model_state_dict

from ademvl.errors import SettingsError
from ademvl.methods.llava_lora.settings import LlavaLoraSettings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.model.vision_language import VisionLanguageModel
from tests.methods.tiny_models import (
    ALL,
    make_backbones,
    make_batch,
    make_llm,
    make_model,
    make_pixels,
)

FP32_TOLERANCE = 1e-5  # other order of sums
LORA = LoraSettings(rank=2, lora_alpha=3.0, dropout=0.5)
LLAVA = LlavaLoraSettings(rank=2, visual_tokens=16, projection_width=4)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


@torch.no_grad()
def test_peft_loads_an_adapter_and_computes_the_same(backbones):
    model = make_model(LORA, backbones)
    token_ids = torch.tensor([[1, 4, 7, 9]])
    with model.opened(None, torch.tensor([False])):
        mine = model.llm(token_ids).logits
    config = LoraConfig(r=2, lora_alpha=3.0, target_modules=["q_proj", "v_proj"])
    theirs = get_peft_model(make_llm(), config)
    loaded = set_peft_model_state_dict(theirs, model.adapter_state_dict())
    assert not loaded.unexpected_keys
    assert not [name for name in loaded.missing_keys if "lora" in name]
    torch.testing.assert_close(mine, theirs.eval()(token_ids).logits, atol=FP32_TOLERANCE, rtol=0)


def _loss(model, numbers):
    logits, targets, _ = model.labelled_logits(make_batch(LORA, numbers), make_pixels(numbers))
    return F.cross_entropy(logits, targets, reduction="sum")


@torch.no_grad()
def test_dropout_is_each_rows_own_and_in_training_only(backbones):
    model = make_model(LORA, backbones)
    evaluated = _loss(model, ALL)
    model.train()
    trained = _loss(model, ALL)
    assert abs(float(trained - evaluated)) > 0.01
    apart = sum(_loss(model, [number]) for number in ALL)
    torch.testing.assert_close(trained, apart, atol=1e-3, rtol=0)


@torch.no_grad()
def test_images_change_nothing_without_places_in_the_text(backbones):
    model = make_model(LORA, backbones)
    batch = make_batch(LORA)
    states = model.hidden_states(batch, make_pixels())
    other = model.hidden_states(batch, make_pixels() + 1)
    assert torch.equal(states, other)


@torch.no_grad()
def test_each_grid_token_is_projected_to_a_place_in_the_text(backbones):
    model = make_model(LLAVA, backbones)
    pixels = make_pixels()
    with model.opened(pixels, make_batch(LLAVA).has_image) as opened:
        found = opened.with_image
    features = model.tower.encode(pixels, LLAVA.tower_states)
    down, up = model.method.projection.down, model.method.projection.up
    expected = up(F.silu(down(features)))
    assert found.shape == (5, 16, 16)
    torch.testing.assert_close(found, expected)


def test_repeated_targets_are_refused():
    with pytest.raises(SettingsError, match="one or more different maps"):
        LoraSettings(targets=("q_proj", "q_proj"))


def test_another_grid_is_refused(backbones):
    with pytest.raises(SettingsError, match="visual_tokens: 4, expected the 16 tokens"):
        make_model(LlavaLoraSettings(visual_tokens=4), backbones)


def test_a_model_without_these_maps_is_refused(backbones):
    model = make_model(LORA, backbones)
    shape = model.method.tower_shape
    llm = make_llm()
    for layer in llm.model.layers:
        layer.self_attn.query = layer.self_attn.q_proj
        del layer.self_attn.q_proj
    with pytest.raises(SettingsError, match=r"has no model.layers.0.self_attn.q_proj"):
        VisionLanguageModel(llm, LORA, tower_shape=shape)
