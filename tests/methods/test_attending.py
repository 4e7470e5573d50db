"""Protects what methods add to attention: at the heads, in their layers only, without a trace."""

import pytest
import torch
from transformers import Qwen2ForCausalLM

from ademvl.methods.attending import attach_attention
from ademvl.methods.sites import Attachment, Pass
from tests.methods.tiny_models import VOCABULARY, WIDTH, make_llm
from tests.random_decoders import random_decoder

TOKEN_IDS = torch.tensor([[1, 5, 9, 3], [1, 8, 2, 7]])
FP32_TOLERANCE = 1e-6


class _Adding(Pass):
    """Adds a multiple of each head's query to its output."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.seen: list[tuple[int, tuple[int, ...]]] = []

    def attend(self, layer, attention, query):
        self.seen.append((layer, tuple(query.shape)))
        return self.factor * query.transpose(1, 2) if self.factor else None


@pytest.fixture
def llm():
    return make_llm()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@torch.no_grad()
def test_heads_get_what_is_added_in_their_layers_only(llm, implementation):
    llm.set_attn_implementation(implementation)
    plain = llm(TOKEN_IDS).logits
    attachment, added = Attachment(), _Adding(0.5)
    attach_attention(llm, attachment, range(1, 2))
    projected = []
    hook = llm.model.layers[1].self_attn.o_proj.register_forward_pre_hook(
        lambda _, args: projected.append(args[0])
    )
    for opened in (_Adding(0.0), added):
        with attachment.active(opened):
            logits = llm(TOKEN_IDS).logits
    hook.remove()
    assert added.seen == [(1, (2, 4, 4, 4))]
    assert not torch.allclose(logits, plain, atol=1e-3)
    heads = (projected[1] - projected[0]).unflatten(-1, (4, 4))  # (B, T, H, h)
    query = llm.model.layers[1].self_attn.q_proj(_attention_input(llm, 1))
    # Rotation at position 0 is none: there the added query is the projection itself.
    expected = 0.5 * query.unflatten(-1, (4, 4))[:, 0]
    torch.testing.assert_close(heads[:, 0], expected, atol=FP32_TOLERANCE, rtol=0)


def _attention_input(llm, layer):
    seen = []
    hook = llm.model.layers[layer].self_attn.q_proj.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    implementation = llm.config._attn_implementation
    llm.config._attn_implementation = "sdpa"
    llm(TOKEN_IDS)
    llm.config._attn_implementation = implementation
    hook.remove()
    return seen[0]


@torch.no_grad()
def test_padding_is_masked_as_before(llm):
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    plain = llm(TOKEN_IDS, attention_mask=mask).logits
    attachment = Attachment()
    attach_attention(llm, attachment, range(2))
    with attachment.active(_Adding(0.0)):
        assert torch.equal(llm(TOKEN_IDS, attention_mask=mask).logits, plain)


@torch.no_grad()
def test_two_models_do_not_share_what_is_added_and_detach_without_a_trace(llm):
    other = make_llm()
    plain = llm(TOKEN_IDS).logits
    first, second = Attachment(), Attachment()
    attach_attention(llm, first, range(2))
    attach_attention(other, second, range(2))
    with first.active(_Adding(0.5)), second.active(_Adding(0.0)):
        assert not torch.allclose(llm(TOKEN_IDS).logits, plain, atol=1e-3)
        assert torch.equal(other(TOKEN_IDS).logits, plain)
    with pytest.raises(RuntimeError, match="outside of an opened block"):
        llm(TOKEN_IDS)
    first.detach()
    assert torch.equal(llm(TOKEN_IDS).logits, plain)
    assert llm.config._attn_implementation == "sdpa"


@torch.no_grad()
def test_other_decoders_have_it_too():
    llm = random_decoder(Qwen2ForCausalLM, vocabulary=VOCABULARY, width=WIDTH, heads=4, kv_heads=2)
    plain, attachment = llm(TOKEN_IDS).logits, Attachment()
    attach_attention(llm, attachment, range(2))
    with attachment.active(_Adding(0.5)):
        assert not torch.allclose(llm(TOKEN_IDS).logits, plain, atol=1e-3)
