"""Protects MM-CoT's model, texts and reading of answers; its golden cases are in tests/golden."""

import pytest
import torch
from torch.testing import assert_close

from ademvl.systems.mm_cot.fusion import FusedT5
from ademvl.systems.mm_cot.prompts import build_source, build_target, stated_choice
from tests.systems.tiny_mm_cot import make_t5

# T5-base and T5-large (arXiv 1910.10683, section 3.7), features of ViT-L.
SIZES = {
    227_233_536: {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    745_014_272: {"d_model": 1024, "d_ff": 4096, "num_layers": 24, "num_heads": 16},
}


@pytest.mark.parametrize("expected", SIZES)
def test_parameters_are_those_of_the_released_models(expected: int) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=32_128, d_kv=64, **SIZES[expected])
    with torch.device("meta"):
        model = FusedT5(T5ForConditionalGeneration(config), image_width=1024)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.fixture(scope="module")
def model() -> FusedT5:
    fused = FusedT5(make_t5(vocab_size=40), image_width=6).eval()
    fused.fusion.initialize(torch.Generator().manual_seed(0))
    return fused


def test_padding_changes_no_row(model: FusedT5) -> None:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 40, (2, 7), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    features = torch.randn(2, 3, 6, generator=generator)

    together = model.encode(ids, mask, features)
    alone = model.encode(ids[1:, :4], mask[1:, :4], features[1:])

    assert_close(together[1:, :4], alone, atol=1e-5, rtol=0)


def test_without_an_image_the_fusion_acts_all_the_same(model: FusedT5) -> None:
    ids = torch.randint(3, 40, (1, 5), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    states = model.t5.encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    fused = model.encode(ids, mask, torch.zeros(1, 3, 6))

    assert (fused - states).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("text", "num_choices", "expected"),
    [
        ("The answer is (B).", 2, 1),
        ("The answer is (C).", 2, -1),  # a choice that is not there
        ("The answer is (A). The answer is (B).", 2, -1),
        ("Solution: a guess", 2, -1),
    ],
)
def test_a_choice_is_stated_exactly_once(text: str, num_choices: int, expected: int) -> None:
    assert stated_choice(text, num_choices=num_choices) == expected


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="QCM-X"):
        build_target(None, "QCM-X")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="CQM-A"):
        build_source(None, "CQM-A", use_caption=False)  # type: ignore[arg-type]
