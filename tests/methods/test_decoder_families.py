"""Protects the families of decoders: where positions lie, and that methods do there what they do.

docs/backbones.md has the table of positions that is tested here.
"""

import fnmatch

import pytest
import torch
import torch.nn.functional as F

from ademvl.errors import SettingsError
from ademvl.methods.adem.settings import POSITIONS
from ademvl.methods.sites import Attachment, Pass, Position, attach_sites
from tests.decoder_families import FAMILIES
from tests.methods.test_all_methods import FP32_TOLERANCE, METHODS
from tests.methods.tiny_models import (
    VOCABULARY,
    make_backbones,
    make_batch,
    make_model,
    make_pixels,
)

TOKEN_IDS = torch.tensor([[1, 5, 9, 3, 7, 2, 8, 6], [1, 8, 2, 7, 4, 4, 3, 9]])
# Norm in front of attention and of the MLP; none where they are given the residual stream itself.
PRE_NORM = ("input_layernorm", "post_attention_layernorm")
INPUT_NORMS = {
    "Llama 3": PRE_NORM,
    "Mistral": PRE_NORM,
    "Qwen 3": PRE_NORM,
    "Gemma": PRE_NORM,
    "Gemma 3": ("input_layernorm", "pre_feedforward_layernorm"),
    "Phi 3": PRE_NORM,
    "SmolLM 3": PRE_NORM,
    "OLMo": PRE_NORM,
    "OLMo 2": ("", ""),
    "OLMo 3": ("", ""),
}
PARALLEL = ("Phi",)
TRIED = (
    "adem",
    "adem, attention",
    "lora",
    "llama_adapter",
    "llama_adapter_v2",
    "gated_xattn",
    "vl_adapter",
    "vl_adapter, adapters alone",
    "lavin",
)
REFUSED = {
    ("Phi", "lora"): "o_proj",
    ("Phi", "llama_adapter_v2"): "has no model.layers.0",
    ("Phi", "vl_adapter"): "set it to false",
    ("Phi 3", "lora"): "q_proj",
    ("Phi 3", "llama_adapter"): "no k_proj and v_proj",
    ("Phi 3", "llama_adapter_v2"): "no k_proj and v_proj",
    ("OLMo", "llama_adapter_v2"): "no RMSNorm",
    ("OLMo 2", "llama_adapter_v2"): "no RMSNorm input_layernorm",
    ("OLMo 3", "llama_adapter_v2"): "no RMSNorm input_layernorm",
}

by_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


class Seen(Pass):
    """Keeps the states at each position of each layer, with what it adds to them."""

    def __init__(self, added: dict[Position, float] | None = None) -> None:
        self.added = added or {}
        self.states: dict[tuple[Position, int], torch.Tensor] = {}

    def visit(self, position, layer, states):
        self.states[position, layer] = states + self.added.get(position, 0.0)
        return self.states[position, layer]


@torch.no_grad()
def _seen(llm, added: dict[Position, float] | None = None) -> dict:
    attachment, seen = Attachment(), Seen(added)
    places = dict.fromkeys(("layer_in", *POSITIONS), range(2))
    attach_sites(llm, attachment, places)
    with attachment.active(seen):
        llm.model(TOKEN_IDS)
    attachment.detach()
    return seen.states


@by_family
@pytest.mark.parametrize("added", [{}, {"mhsa_out": 0.5, "mlp_out": 0.25}], ids=["bare", "added"])
def test_what_is_at_the_outs_is_what_layers_add(family, added):
    seen = _seen(FAMILIES[family].decoder(), added)
    total = seen["layer_in", 0] + seen["mhsa_out", 0] + seen["mlp_out", 0]
    torch.testing.assert_close(total, seen["layer_in", 1], atol=FP32_TOLERANCE, rtol=0)


@by_family
@torch.no_grad()
def test_what_is_at_the_ins_is_what_attention_and_mlp_are_given(family):
    llm = FAMILIES[family].decoder()
    seen, layer = _seen(llm, {"mhsa_out": 0.5}), llm.model.layers[0]
    if family in PARALLEL:
        expected = (layer.input_layernorm(seen["layer_in", 0]),) * 2
    else:
        of_attention, of_mlp = (
            getattr(layer, name) if name else torch.nn.Identity() for name in INPUT_NORMS[family]
        )
        middle = seen["layer_in", 0] + seen["mhsa_out", 0]
        expected = of_attention(seen["layer_in", 0]), of_mlp(middle)
    found = seen["mhsa_in", 0], seen["mlp_in", 0]
    torch.testing.assert_close(found, expected, atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", TRIED)
@by_family
@torch.no_grad()
def test_without_its_output_maps_a_method_leaves_the_bare_model(family, name, backbones):
    case, llm = METHODS[name], FAMILIES[family].decoder(vocabulary=VOCABULARY)
    if message := REFUSED.get((family, name)):
        with pytest.raises(SettingsError, match=message):
            make_model(case.settings, backbones, llm)
        return
    model = make_model(case.settings, backbones, llm)
    batch, pixels = make_batch(case.settings), make_pixels()
    changed = model.hidden_states(batch, pixels)
    for part, parameter in model.method.named_parameters():
        if any(fnmatch.fnmatch(part, pattern) for pattern in case.output_maps):
            parameter.zero_()
    states = model.hidden_states(batch, pixels)
    with model.opened(pixels, batch.has_image) as opened:
        embeddings = model.embed(batch.input_ids, batch.slot_start, opened.with_image)
    model.detach()
    bare = llm.model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(states, bare, atol=FP32_TOLERANCE, rtol=0)
    assert not torch.allclose(changed, bare, atol=1e-3)


@pytest.mark.parametrize("name", ["adem", "llama_adapter", "lavin"])
@by_family
@torch.no_grad()
def test_steps_with_a_cache_equal_the_whole_pass(family, name, backbones):
    if (family, name) in REFUSED:
        pytest.skip("refused, see above")
    llm, settings = FAMILIES[family].decoder(vocabulary=VOCABULARY), METHODS[name].settings
    model, numbers = make_model(settings, backbones, llm), (1, 3)
    batch, pixels = make_batch(settings, numbers), make_pixels(numbers)
    whole = model.hidden_states(batch, pixels)
    with model.opened(pixels, batch.has_image) as opened:
        embeddings = model.embed(batch.input_ids, batch.slot_start, opened.with_image)
        parts, cache = [], None
        for part in embeddings.split((6, 1, 1, 1, embeddings.shape[1] - 9), dim=1):
            states, cache = model.decode(part, cache=cache, use_cache=True)
            parts.append(states)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=FP32_TOLERANCE, rtol=0)


@by_family
def test_gradients_are_the_same_with_checkpointing_and_in_any_batch(family, backbones):
    settings, found = METHODS["adem"].settings, []
    for numbers in ([(0, 1, 2)], [(0,), (1,), (2,)], None):
        llm = FAMILIES[family].decoder(vocabulary=VOCABULARY)
        model = make_model(settings, backbones, llm).train()
        if numbers is None:
            model.enable_checkpointing()
        for rows in numbers or [(0, 1, 2)]:
            logits, targets, _ = model(make_batch(settings, rows), make_pixels(rows))
            F.cross_entropy(logits, targets, reduction="sum").backward()
        found.append([p.grad for p in model.method.parameters() if p.grad is not None])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-4, rtol=1e-4)
