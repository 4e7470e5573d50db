"""Protects sites: where states are read and added, and that detaching leaves no trace."""

from itertools import combinations_with_replacement

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    Qwen2ForCausalLM,
)

from ademvl.errors import SettingsError
from ademvl.methods.adem.settings import POSITIONS
from ademvl.methods.sites import Attachment, Pass, attach_sites
from tests.random_decoders import random_decoder

PLACES = list(combinations_with_replacement(POSITIONS, 2))  # all with add_to not before query_from
FP32_TOLERANCE = 1e-5


def _llm(model_class=LlamaForCausalLM):
    return random_decoder(model_class, heads=2, kv_heads=1, initializer_range=0.3)


@pytest.fixture
def llm():
    return _llm()


@pytest.fixture
def token_ids():
    return torch.tensor([[1, 5, 9, 3], [1, 8, 2, 7]])


def _double_queries(queries, target, layer):
    return target + (layer + 1) * 0.5 * queries


class _Fusing(Pass):
    """Reads queries at one position and adds to the states at another."""

    def __init__(self, query_from, add_to, fuse=_double_queries):
        self.query_from, self.add_to, self.fuse, self.queries = query_from, add_to, fuse, {}

    def visit(self, position, layer, states):
        if position == self.query_from:
            self.queries[layer] = states
        if position == self.add_to:
            return self.fuse(self.queries.pop(layer), states, layer)
        return states


def _attach(llm, *positions) -> Attachment:
    attachment = Attachment()
    attach_sites(llm, attachment, dict.fromkeys(positions, range(2)))
    return attachment


@torch.no_grad()
def _by_hand(llm, token_ids, query_from, add_to):
    """Run a Llama layer by layer, fusing in plain sight."""
    states = llm.model.embed_tokens(token_ids)
    position_ids = torch.arange(token_ids.shape[1])[None]
    rotary = llm.model.rotary_emb(states, position_ids)
    for number, layer in enumerate(llm.model.layers):
        seen = {}

        def visit(position, value, number=number, seen=seen):
            seen[position] = value
            return _double_queries(seen[query_from], value, number) if position == add_to else value

        attention_in = visit("mhsa_in", layer.input_layernorm(states))
        attended, _ = layer.self_attn(
            hidden_states=attention_in, position_embeddings=rotary, attention_mask=None
        )
        states = states + visit("mhsa_out", attended)
        mlp_in = visit("mlp_in", layer.post_attention_layernorm(states))
        states = states + visit("mlp_out", layer.mlp(mlp_in))
    return llm.lm_head(llm.model.norm(states))


@pytest.mark.parametrize(("query_from", "add_to"), PLACES)
@torch.no_grad()
def test_states_are_read_and_added_where_asked(llm, token_ids, query_from, add_to):
    expected = _by_hand(llm, token_ids, query_from, add_to)
    with _attach(llm, query_from, add_to).active(_Fusing(query_from, add_to)):
        logits = llm(token_ids).logits
    torch.testing.assert_close(logits, expected, atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_all_places_give_different_results(token_ids):
    results = []
    for query_from, add_to in PLACES:
        llm = _llm()
        with _attach(llm, query_from, add_to).active(_Fusing(query_from, add_to)):
            results.append(llm(token_ids).logits)
    for one in range(len(results)):
        for other in range(one):
            assert not torch.allclose(results[one], results[other], atol=1e-3)


@pytest.mark.parametrize(("query_from", "add_to"), [("mlp_in", "mlp_out"), ("mhsa_in", "mlp_out")])
@torch.no_grad()
def test_detaching_leaves_the_base_model_untouched(llm, token_ids, query_from, add_to):
    before = {name: tensor.clone() for name, tensor in llm.state_dict().items()}
    names = [name for name, _ in llm.named_modules()]
    logits = llm(token_ids).logits
    attachment = _attach(llm, query_from, add_to)
    with attachment.active(_Fusing(query_from, add_to)):
        assert not torch.equal(llm(token_ids).logits, logits)
    attachment.detach()
    assert [name for name, _ in llm.named_modules()] == names
    after = llm.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(llm(token_ids).logits, logits)


@torch.no_grad()
def test_a_fusion_that_adds_nothing_changes_nothing(llm, token_ids):
    logits = llm(token_ids).logits
    nothing = _Fusing("mhsa_in", "mlp_out", lambda queries, target, layer: target)
    with _attach(llm, "mhsa_in", "mlp_out").active(nothing):
        assert torch.equal(llm(token_ids).logits, logits)


def test_module_tree_and_names_stay_as_they_are(llm):
    names, modules = list(llm.state_dict()), dict(llm.named_modules())
    _attach(llm, "layer_in", "mhsa_in", "mhsa_out", "mlp_in", "mlp_out")
    assert list(llm.state_dict()) == names
    assert dict(llm.named_modules()) == modules


@torch.no_grad()
def test_only_the_layers_asked_for_are_visited(llm, token_ids):
    seen = []

    class Recording(Pass):
        def visit(self, position, layer, states):
            seen.append((position, layer, tuple(states.shape)))
            return states

    attachment = Attachment()
    attach_sites(llm, attachment, {"layer_in": range(1, 2), "mlp_out": range(1)})
    with attachment.active(Recording()):
        llm(token_ids)
    assert seen == [("mlp_out", 0, (2, 4, 16)), ("layer_in", 1, (2, 4, 16))]


@pytest.mark.parametrize("model_class", [Qwen2ForCausalLM, MistralForCausalLM])
@pytest.mark.parametrize(("query_from", "add_to"), [("mlp_in", "mlp_out"), ("mhsa_in", "mhsa_out")])
@torch.no_grad()
def test_other_decoders_work(model_class, query_from, add_to, token_ids):
    llm = _llm(model_class)
    logits = llm(token_ids).logits
    attachment = _attach(llm, query_from, add_to)
    with attachment.active(_Fusing(query_from, add_to)):
        assert not torch.allclose(llm(token_ids).logits, logits, atol=1e-3)
    attachment.detach()
    assert torch.equal(llm(token_ids).logits, logits)


def test_another_layout_is_refused_by_name():
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=10))
    with pytest.raises(SettingsError, match=r"GPT2LMHeadModel has no model\.layers"):
        _attach(gpt2, "mlp_in", "mlp_out")


def test_a_call_outside_of_an_opened_block_is_refused(llm, token_ids):
    attachment = _attach(llm, "mlp_in", "mlp_out")
    with pytest.raises(RuntimeError, match="outside of an opened block"):
        llm(token_ids)
    with attachment.active(_Fusing("mlp_in", "mlp_out")):
        llm(token_ids)
    with pytest.raises(RuntimeError, match="outside of an opened block"):
        llm(token_ids)
