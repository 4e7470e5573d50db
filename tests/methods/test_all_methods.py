"""Protects what every method must do: add nothing where it is zero, train, batch, cache, detach.

A new built-in method needs a line in `METHODS`; nothing else here knows any method.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.config.methods_by_name import built_in_methods
from ademvl.llm.loading import fingerprint_llm
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.gated_xattn.settings import GatedXattnSettings, PerceiverSettings
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.llava_lora.settings import LlavaLoraSettings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from ademvl.model.vision_language import VisionLanguageModel
from tests.methods.tiny_models import (
    ALL,
    make_backbones,
    make_batch,
    make_llm,
    make_model,
    make_pixels,
)

FP32_TOLERANCE = 2e-5  # other order of sums, after two layers
IN_TOWER = ClipAdapterSettings(dim=2, dropout=0.0)
ADEM = {"scales": (16, 4), "projection_width": 4, "alpha": 0.5, "beta": 0.5, "gamma": 0.3}
ALL_MAPS = ("q_proj", "k_proj", "v_proj", "o_proj")

V2 = {"prompt_length": 3, "visual_width": 8, "visual_blocks": 2, "visual_heads": 2}


class Case(NamedTuple):
    """Settings of a method, and the tensors that it adds nothing without."""

    settings: MethodSettings
    output_maps: Sequence[str]


_SMALL = PerceiverSettings(num_latents=3, layers=2, heads=2, head_width=4, ratio=2)
_GATED = {"heads": 2, "head_width": 4, "ratio": 2, "perceiver": _SMALL}
_GATES = ("blocks.*.attention_gate", "blocks.*.feed_forward_gate")
_ADAPTED = ("attention_adapters.*", "mlp_adapters.*")
_FUSED = ("value_table", "grid_projection.up.*", "clip_adapters.*.up.weight")
_LAVIN = {"dim": 4, "projection_width": 4, "scale": 0.5, "temperature": 2.0, "dropout": 0.0}
_EXPERTS = ("layers.*.experts.*", "clip_adapters.*.experts.*")
METHODS: Mapping[str, Case] = {
    "adem": Case(AdemSettings(**ADEM, clip_adapter=IN_TOWER), _FUSED),
    "adem, memvp's rule": Case(AdemSettings(**ADEM, clip_adapter=IN_TOWER, fusion="memvp"), _FUSED),
    "adem, attention": Case(
        AdemSettings(**ADEM, clip_adapter=IN_TOWER, query_from="mhsa_in", add_to="mhsa_out"),
        _FUSED,
    ),
    "adem, a threshold each layer": Case(
        AdemSettings(**ADEM, clip_adapter=IN_TOWER, threshold="per_layer"), _FUSED
    ),
    "adem, a threshold each token": Case(
        AdemSettings(
            **ADEM,
            clip_adapter=IN_TOWER,
            threshold="per_token",
            threshold_relaxation="sigmoid",
            score_dropout=0.1,
            layer_dropout=0.2,
            token_dropout=0.1,
        ),
        _FUSED,
    ),
    "adem, entmax": Case(AdemSettings(**ADEM, clip_adapter=IN_TOWER, threshold="entmax15"), _FUSED),
    "lora": Case(LoraSettings(rank=2, dropout=0.0, targets=ALL_MAPS), ["*.lora_B.weight"]),
    "llava_lora": Case(
        LlavaLoraSettings(rank=2, dropout=0.0, visual_tokens=16, projection_width=4),
        ["*.lora_B.weight"],
    ),
    "llama_adapter": Case(
        LlamaAdapterSettings(
            prompt_length=3, first_layer=1, cls_blocks=(0, -1), projection_width=4
        ),
        ("gates.*",),
    ),
    "llama_adapter, text alone": Case(
        LlamaAdapterSettings(prompt_length=3, first_layer=0, image=False), ("gates.*",)
    ),
    "llama_adapter_v2": Case(LlamaAdapterV2Settings(**V2), ("gates.*", "biases.*", "norms.*")),
    "llama_adapter_v2, pretrain": Case(
        LlamaAdapterV2Settings(**V2, stage="pretrain"), ("gates.*",)
    ),
    "llama_adapter_v2, finetune": Case(
        LlamaAdapterV2Settings(**V2, stage="finetune"), ("biases.*", "norms.*")
    ),
    "llama_adapter_v2, finetune after pretrain": Case(
        LlamaAdapterV2Settings(**V2, stage="finetune_after_pretrain"),
        ("gates.*", "biases.*", "norms.*"),
    ),
    "memvp": Case(
        MemvpSettings(
            table_rows=20,
            projection_width=4,
            alpha=0.5,
            beta=0.5,
            dropout=0.0,
            clip_adapter=IN_TOWER,
        ),
        _FUSED,
    ),
    "gated_xattn": Case(GatedXattnSettings(**_GATED, every=2), _GATES),
    "gated_xattn, every layer": Case(GatedXattnSettings(**_GATED, every=1, ln_post=True), _GATES),
    "vl_adapter": Case(
        VlAdapterSettings(visual_tokens=4, reduction_factor=4, norm_before=True),
        (*_ADAPTED, "norms.*"),
    ),
    "vl_adapter, adapters alone": Case(
        VlAdapterSettings(visual_tokens=9, norm_after=True, train_norms=False), _ADAPTED
    ),
    "lavin": Case(LavinSettings(**_LAVIN, cls_blocks=(0, 2)), _EXPERTS),
    "lavin, plain in the tower": Case(
        LavinSettings(**_LAVIN, cls_blocks=(0, 1), tower_adapters="plain"), _EXPERTS[:1]
    ),
}

pytestmark = pytest.mark.parametrize("case", METHODS.values(), ids=METHODS.keys())


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return make_backbones(tmp_path_factory.mktemp("tower"))


@pytest.fixture
def model(case, backbones):
    return make_model(case.settings, backbones)


def _gradients(model: VisionLanguageModel, numbers: Sequence[int] = ALL):
    model.zero_grad(set_to_none=True)
    batch = make_batch(model.method.settings, numbers)
    logits, targets, _ = model.labelled_logits(batch, make_pixels(numbers))
    F.cross_entropy(logits, targets).backward()
    return {name: p.grad for name, p in model.named_trainable_parameters()}


def test_every_built_in_method_is_here(case):
    assert {each.settings.name for each in METHODS.values()} == set(built_in_methods())


@torch.no_grad()
def test_without_its_output_maps_the_model_is_the_bare_one(case, model):
    zeroed = [
        parameter.zero_()
        for name, parameter in model.method.named_parameters()
        if any(fnmatch.fnmatch(name, pattern) for pattern in case.output_maps)
    ]
    assert len(zeroed) >= len(case.output_maps)
    batch, pixels = make_batch(case.settings), make_pixels()
    states = model.hidden_states(batch, pixels)
    with model.opened(pixels, batch.has_image) as opened:
        embeddings = model.embed(batch.input_ids, batch.slot_start, opened.with_image)
    bare = make_llm().model(inputs_embeds=embeddings).last_hidden_state
    torch.testing.assert_close(states, bare, atol=FP32_TOLERANCE, rtol=0)


def test_three_steps_move_everything_but_what_is_unused(model):
    before = model.adapter_state_dict()
    optimizer = torch.optim.AdamW(model.method.parameters(), lr=0.01)
    model.train()
    for _ in range(3):
        _gradients(model)
        optimizer.step()
    unmoved = {
        name for name, now in model.adapter_state_dict().items() if torch.equal(now, before[name])
    }
    kept = {name for name, p in model.method.named_parameters() if not p.requires_grad}
    assert unmoved == kept | model.method.unused()


def test_fresh_values_depend_on_seed_and_name_only(case, backbones):
    states = []
    for seed in (1, 1, 2):
        model = make_model(case.settings, backbones)
        model.initialize(seed)
        states.append(model.adapter_state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    starts_at_zero = not any(values.any() for values in first.values())
    assert starts_at_zero or any(not torch.equal(first[name], other[name]) for name in first)


def test_checkpointing_changes_nothing(case, model, backbones):
    expected = _gradients(model.train())
    checkpointed = make_model(case.settings, backbones).train()
    checkpointed.enable_checkpointing()
    found = _gradients(checkpointed)
    for name, gradient in expected.items():
        assert (gradient is None) == (found[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_steps_with_a_cache_equal_the_whole_pass(model):
    numbers = (0, 1, 3)
    batch, pixels = make_batch(model.method.settings, numbers), make_pixels(numbers)
    whole = model.hidden_states(batch, pixels)
    with model.opened(pixels, batch.has_image) as opened:
        embeddings = model.embed(batch.input_ids, batch.slot_start, opened.with_image)
        parts, cache = [], None
        for part in embeddings.split((6, 1, embeddings.shape[1] - 7), dim=1):
            states, cache = model.decode(part, cache=cache, use_cache=True)
            parts.append(states)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=FP32_TOLERANCE, rtol=0)


@torch.no_grad()
def test_a_batch_of_eight_equals_eight_of_one(model):
    settings = model.method.settings
    together = model.next_token_logits(make_batch(settings), make_pixels())
    for number in ALL:
        alone = model.next_token_logits(make_batch(settings, [number]), make_pixels([number]))
        torch.testing.assert_close(together[number], alone[0], atol=FP32_TOLERANCE, rtol=0)


def test_attached_it_leaves_the_language_models_fingerprint(model):
    attached = fingerprint_llm(model.llm, trained=model.method.parameters())
    assert attached == fingerprint_llm(make_llm())


@torch.no_grad()
def test_detaching_gives_the_frozen_models_back(case, model):
    pixels, token_ids = make_pixels(), torch.tensor([[1, 4, 7]])
    frozen = model.tower.visual.state_dict()
    model.detach()
    bare = make_llm()
    assert torch.equal(model.llm(token_ids).logits, bare(token_ids).logits)
    assert list(model.llm.state_dict()) == list(bare.state_dict())
    assert [name for name, _ in model.llm.named_modules()] == [n for n, _ in bare.named_modules()]
    assert list(model.tower.visual.state_dict()) == list(frozen)
    features = model.tower.encode(pixels, case.settings.tower_states)
    assert torch.equal(features, model.tower.encode(pixels, case.settings.tower_states))
