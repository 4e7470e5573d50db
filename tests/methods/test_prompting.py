"""Protects prompts beside the text: a softmax of their own, gates by head, and where they are."""

import math

import pytest
import torch
from torch import Tensor
from transformers import Phi3ForCausalLM

from ademvl.errors import SettingsError
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.prompting import PromptedMethod, PromptPass
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.vision.tower import load_tower
from tests.methods.tiny_models import WIDTH, make_backbones, make_model
from tests.random_decoders import random_decoder

FP32_TOLERANCE = 1e-6
HEADS, KV_HEADS, HEAD_DIM, LENGTH = 4, 2, 4, 3  # of the tiny Llama, and prompts of a layer
TEXT = LlamaAdapterSettings(prompt_length=LENGTH, first_layer=1, image=False)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


@pytest.fixture
def model(backbones) -> VisionLanguageModel:
    return make_model(TEXT, backbones)


def _by_hand(model: VisionLanguageModel, prompts: Tensor, query: Tensor) -> Tensor:
    """Compute what one row's text, (H, T, h), sees in a layer's prompts, (K, d), head by head."""
    attention, gate = model.llm.model.layers[1].self_attn, model.method.gates["1"].flatten()
    keys, values = (
        (prompts @ getattr(attention, name).weight.T).view(LENGTH, KV_HEADS, HEAD_DIM)
        for name in ("k_proj", "v_proj")
    )
    heads = []
    for head in range(HEADS):
        own = head // (HEADS // KV_HEADS)
        scores = query[head] @ keys[:, own].T / math.sqrt(HEAD_DIM)  # (T, K)
        likelihood = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
        heads.append(math.tanh(float(gate[head])) * likelihood @ values[:, own])
    return torch.stack(heads, dim=1)  # (T, H, h)


@torch.no_grad()
def test_text_attends_to_prompts_by_a_softmax_of_their_own(model):
    method, attention = model.method, model.llm.model.layers[1].self_attn
    image, query = _random(2, 1, WIDTH), _random(2, HEADS, 5, HEAD_DIM, seed=1)
    seen = PromptPass(method, image).attend(1, attention, query)
    for row in range(2):
        expected = _by_hand(model, method.prompts + image[row], query[row])
        torch.testing.assert_close(seen[row], expected, atol=FP32_TOLERANCE, rtol=0)
    alone = PromptPass(method, None).attend(1, attention, query)
    expected = _by_hand(model, method.prompts, query[1])
    torch.testing.assert_close(alone[1], expected, atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_beams_see_the_image_of_their_row(model):
    attention, query = model.llm.model.layers[1].self_attn, _random(2, HEADS, 1, HEAD_DIM)
    image = _random(2, LENGTH, WIDTH)
    opened = PromptPass(model.method, image)
    seen = opened.repeated(2).attend(1, attention, query.repeat_interleave(2, dim=0))
    expected = opened.attend(1, attention, query).repeat_interleave(2, dim=0)
    torch.testing.assert_close(seen, expected, atol=FP32_TOLERANCE, rtol=0)
    assert opened.repeated(1) is opened


def test_layers_use_prompts_of_their_own(backbones):
    settings = LlamaAdapterSettings(prompt_length=LENGTH, first_layer=0, image=False)
    method = make_model(settings, backbones).method
    assert isinstance(method, PromptedMethod)
    assert method.attending_layers() == range(2)
    assert method.prompts.shape == (2 * LENGTH, WIDTH)
    attention, query = (
        make_model(TEXT, backbones).llm.model.layers[0].self_attn,
        _random(1, 4, 1, 4),
    )
    seen = []
    for layer in (0, 1):
        with torch.no_grad():
            method.gates[str(layer)].fill_(1.0)
            method.prompts[LENGTH * layer :][:LENGTH] = layer
        seen.append(PromptPass(method, None).attend(layer, attention, query))
    assert not seen[0].any()  # values of prompts that are zero
    assert seen[1].all()


def test_layers_that_a_model_lacks_are_refused(backbones):
    settings = LlamaAdapterSettings(first_layer=2, image=False)
    with pytest.raises(SettingsError, match=r"method\.first_layer: 2, expected less than the 2"):
        make_model(settings, backbones)


def test_attention_without_keys_and_values_of_their_own_is_refused(backbones):
    llm = random_decoder(Phi3ForCausalLM, width=WIDTH, heads=4, kv_heads=2, pad_token_id=0)
    tower = load_tower(backbones)
    with pytest.raises(SettingsError, match=r"Phi3ForCausalLM has no k_proj and v_proj in layer 1"):
        VisionLanguageModel(llm, TEXT, tower)


def test_the_model_starts_as_the_bare_one(backbones):
    model = make_model(
        LlamaAdapterSettings(prompt_length=500, first_layer=1, image=False), backbones
    )
    model.initialize(3)
    state = model.adapter_state_dict()
    assert not state["gates.1"].any()
    # 8,000 normal values: their deviation scatters by 0.8 %.
    assert abs(float(state["prompts"].std()) - 1) < 0.04
