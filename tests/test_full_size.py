"""Protects the paper's sizes: LLaMA-7B and 13B with CLIP ViT-L/14, on a device without memory."""

import pytest
import torch

from ademvl.config.method import ClipAdapterSettings
from ademvl.data.collate import Batch
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.vision.tower import VisionTower

VOCAB_SIZE = 32_000
# Width, layers, heads and feed-forward width (arXiv 2302.13971, table 2, and the released params).
SIZES = {"7B": (4096, 32, 32, 11_008), "13B": (5120, 40, 40, 13_824)}
LLM_PARAMETERS = {"7B": 6_738_415_616, "13B": 13_015_864_320}
TRAINED = {"7B": 4_530_432, "13B": 5_449_984}


@pytest.fixture(scope="module", params=SIZES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    import open_clip
    from transformers import LlamaConfig, LlamaForCausalLM

    width, layers, heads, ffn_width = SIZES[name]
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=width,
        intermediate_size=ffn_width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        dtype=torch.float16,
        attn_implementation="sdpa",
    )
    with torch.device("meta"):
        llm = LlamaForCausalLM(config).half()
        tower = VisionTower(
            open_clip.create_model("ViT-L-14-quickgelu", device="meta"), name="ViT-L-14"
        )
        # A generator of dropout masks needs a real device.
        settings = AdemSettings(clip_adapter=ClipAdapterSettings(dropout=0.0))
        model = VisionLanguageModel(llm, settings, tower)
    return model


def batch_of(*, length):
    """One row with an image, one without; the last eight tokens are scored."""
    labels = torch.full((2, length), -100)
    labels[:, -8:] = 5
    return Batch(
        item_ids=("a", "b"),
        input_ids=torch.full((2, length), 5),
        labels=labels,
        lengths=torch.tensor([length, length]),
        slot_start=torch.tensor([5, -1]),
        has_image=torch.tensor([True, False]),
        images=(None, None),
    )


def test_counts_are_those_of_the_releases_and_of_the_paper(name, model):
    assert sum(parameter.numel() for parameter in model.llm.parameters()) == LLM_PARAMETERS[name]
    trained = dict(model.named_trainable_parameters())
    assert sum(parameter.numel() for parameter in trained.values()) == TRAINED[name]


def test_forward_and_backward_have_the_right_shapes(model, monkeypatch):
    # It looks at the values of positions, which a tensor without memory does not have.
    packed = "transformers.masking_utils.find_packed_sequence_indices"
    monkeypatch.setattr(packed, lambda position_ids: None)
    batch, pixels = batch_of(length=256), torch.empty(1, 3, 224, 224, device="meta")
    predictions = model(batch, pixels)
    assert tuple(predictions.logits.shape) == (2 * 8, VOCAB_SIZE)
    assert predictions.logits.dtype == torch.float16

    predictions.logits.float().sum().backward()

    gradients = {name: p.grad for name, p in model.named_trainable_parameters()}
    without = [name for name, gradient in gradients.items() if gradient is None]
    assert without == [f"clip_adapters.23.{part}.weight" for part in ("down", "up")]
    for name, parameter in model.named_trainable_parameters():
        if name not in without:
            assert parameter.grad.shape == parameter.shape, name
            assert parameter.grad.dtype == torch.float32, name
    assert all(parameter.grad is None for parameter in model.llm.parameters())
