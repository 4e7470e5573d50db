"""Protects vectors before the begin token: first in every row, and seen by no text."""

import pytest
import torch
from transformers import GenerationConfig

from ademvl.llm.kv_cache import cache_name
from ademvl.methods.begin_places import attach_begin_places
from ademvl.methods.sites import Attachment, Pass, attach_sites
from tests.methods.tiny_models import WIDTH, make_llm

TOKEN_IDS = torch.tensor([[1, 5, 9, 3, 6], [1, 8, 2, 7, 4]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
POSITIONS = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]])
PLACES = 2
FP32_TOLERANCE = 2e-5  # rotary embedding at other offsets, after two layers


class _Places(Pass):
    """Vectors in front, whose states in the first layer every text state gets a part of."""

    def __init__(self, *, strength: float = 0.0, rows: int = 2) -> None:
        generator = torch.Generator().manual_seed(2)
        self.strength = strength
        self.before_begin = torch.randn(rows, PLACES, WIDTH, generator=generator)
        self.lengths: list[int] = []
        self._first: torch.Tensor | None = None

    def repeated(self, times):
        repeated = _Places(strength=self.strength)
        repeated.before_begin = self.before_begin.repeat_interleave(times, dim=0)
        return repeated

    def visit(self, position, layer, states):
        self.lengths.append(states.shape[1])
        if self._first is None:
            self._first = states[:, :1]
        return states + self.strength * self._first


def _attached(llm):
    attachment = Attachment()
    attach_sites(llm, attachment, {"mlp_in": range(1)})
    attach_begin_places(llm, attachment, PLACES)
    return attachment


def _decode(llm, opened, token_ids=TOKEN_IDS, **options):
    with _attached(llm).active(opened):
        return llm.model(input_ids=token_ids, **options).last_hidden_state


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@torch.no_grad()
def test_text_does_not_see_the_places_but_stands_behind_them(implementation):
    llm = make_llm()
    llm.set_attn_implementation(implementation)
    plain = llm.model(
        input_ids=TOKEN_IDS, position_ids=torch.arange(5)[None] + PLACES
    ).last_hidden_state
    opened = _Places()
    states = _decode(llm, opened)
    assert opened.lengths == [PLACES + 5]
    torch.testing.assert_close(states, plain, atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_a_method_can_use_what_it_put_there():
    weak, strong = (_decode(make_llm(), _Places(strength=s)) for s in (0.0, 0.5))
    assert not torch.allclose(weak, strong, atol=1e-3)


@torch.no_grad()
def test_padding_on_the_left_changes_nothing():
    opened = _Places(strength=0.5)
    padded = _decode(make_llm(), opened, attention_mask=MASK, position_ids=POSITIONS)
    alone = _Places(strength=0.5)
    alone.before_begin = opened.before_begin[:1]
    expected = _decode(make_llm(), alone, TOKEN_IDS[:1, 2:])
    torch.testing.assert_close(padded[0, 2:], expected[0], atol=FP32_TOLERANCE, rtol=0)
    assert padded.isfinite().all()


@torch.no_grad()
def test_steps_with_a_cache_equal_the_whole_pass():
    llm, opened = make_llm(), _Places(strength=0.5)
    whole = _decode(make_llm(), _Places(strength=0.5), attention_mask=MASK, position_ids=POSITIONS)
    parts, cache, name = [], None, cache_name(llm.model)
    with _attached(llm).active(opened):
        for start, end in ((0, 3), (3, 4), (4, 5)):
            output = llm.model(
                input_ids=TOKEN_IDS[:, start:end],
                attention_mask=MASK[:, :end],
                position_ids=POSITIONS[:, start:end],
                use_cache=True,
                **{name: cache},
            )
            cache = output[name]
            parts.append(output.last_hidden_state)
    assert opened.lengths == [PLACES + 3, 1, 1]
    found = torch.cat(parts, dim=1)
    is_token = MASK.bool()
    torch.testing.assert_close(found[is_token], whole[is_token], atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize(("counts", "later"), [(True, (5, 6)), (False, (3, 4))])
@torch.no_grad()
def test_later_calls_count_the_places_or_go_back_by_them(counts, later):
    llm, opened, positions = make_llm(), _Places(), []
    opened.counts_begin_later = counts
    llm.model.rotary_emb.register_forward_pre_hook(
        lambda module, args, kwargs: positions.append(kwargs["position_ids"].tolist()),
        with_kwargs=True,
    )
    name = cache_name(llm.model)
    with _attached(llm).active(opened):
        cache = llm.model(input_ids=TOKEN_IDS[:, :3], use_cache=True)[name]
        for place in (3, 4):
            llm.model(input_ids=TOKEN_IDS[:, [place]], use_cache=True, **{name: cache})
    assert positions == [[[0, 1, 2, 3, 4]] * 2, [[later[0]]] * 2, [[later[1]]] * 2]


@torch.no_grad()
def test_a_search_of_transformers_goes_on_behind_them():
    llm, opened, beams = make_llm(), _Places(strength=0.5), 2
    options = GenerationConfig(
        do_sample=False, num_beams=beams, max_new_tokens=3, eos_token_id=39, pad_token_id=39
    )
    with _attached(llm).active(opened.repeated(beams)):
        found = llm.generate(
            inputs_embeds=llm.get_input_embeddings()(TOKEN_IDS),
            attention_mask=MASK,
            generation_config=options,
        )
    best = _best_by_trying_all(opened)
    assert found.tolist() == best


def _best_by_trying_all(opened):
    """Search with as many beams by whole passes without any cache."""
    rows = []
    for row, first in ((0, 2), (1, 0)):
        prompt = TOKEN_IDS[row, first:].tolist()
        beams = [(0.0, prompt)]
        for _ in range(3):
            longer = []
            for score, ids in beams:
                alone = _Places(strength=0.5)
                alone.before_begin = opened.before_begin[row : row + 1]
                llm = make_llm()
                states = _decode(llm, alone, torch.tensor([ids]))
                likelihood = llm.lm_head(states[0, -1]).log_softmax(dim=-1)
                values, tokens = likelihood.topk(4)
                longer += [
                    (score + float(v), [*ids, t])
                    for v, t in zip(values, tokens.tolist(), strict=True)
                ]
            beams = sorted(longer, reverse=True)[:2]
        rows.append(beams[0][1][len(prompt) :])
    return rows
