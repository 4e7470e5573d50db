"""Protects LLaMA-7B and 13B at full size on the `meta` device: counts, shapes, cost."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import BackboneSettings
from ademvl.methods.adem.settings import AdemSettings
from ademvl.planning.costs import sizes_with
from ademvl.planning.flops import training_flops
from ademvl.planning.memory import training_memory
from ademvl.planning.random_model import build_random_model, random_batch, random_images
from ademvl.planning.shapes import known_models, vision_shape
from ademvl.planning.sizes import MicroBatch, Numerics
from ademvl.probing.measure import TensorMemory, values_unknown
from ademvl.training.loss import token_losses

# Dropout draws from generators, which `meta` has not.
METHOD = AdemSettings(clip_adapter=ClipAdapterSettings(dropout=0.0))
ROWS, WIDTH, SCORED, IMAGE_ROWS = 2, 256, 7, 1
MEMORY_TOLERANCE, FLOPS_TOLERANCE = 0.15, 0.05


def _sizes(name, *, online):
    llm = known_models()[name]
    vision = vision_shape(BackboneSettings(tower="ViT-L-14-quickgelu"))
    return sizes_with(METHOD, llm=llm, vision=vision, online=online)


# Trained parameters as the paper prints them: 4.5 M and 5.5 M (arXiv 2410.17779, table 1).
@pytest.mark.parametrize(
    ("name", "trained", "frozen"),
    [
        ("llama_7b", 4_530_432, 6_738_415_616),
        ("llama_13b", 5_449_984, 13_015_864_320),
    ],
)
def test_forward_and_backward_at_full_size(name, trained, frozen):
    sizes, numerics = _sizes(name, online=True), Numerics(precision="fp32")
    model = build_random_model(sizes, numerics, device="meta")
    parameters = dict(model.named_trainable_parameters())
    assert sum(p.numel() for p in parameters.values()) == trained
    assert sum(p.numel() for p in model.llm.parameters()) == frozen

    batch = random_batch(sizes, lengths=[WIDTH] * ROWS, scored=SCORED, image_rows=IMAGE_ROWS)
    images = random_images(sizes, IMAGE_ROWS).to("meta")
    with values_unknown(), FlopCounterMode(display=False) as counter:
        logits, targets, _ = model.labelled_logits(batch, images)
        assert logits.shape == (ROWS * SCORED, sizes.llm.vocabulary)
        token_losses(logits, targets).mean().backward()

    shapes = {name: p.grad.shape for name, p in parameters.items() if p.grad is not None}
    assert shapes == {name: parameters[name].shape for name in shapes}
    without = {name for name, p in parameters.items() if p.grad is None}
    assert without == {"clip_adapters.23.down.weight", "clip_adapters.23.up.weight"}
    micro_batch = MicroBatch(rows=ROWS, image_rows=IMAGE_ROWS, width=WIDTH, scored=ROWS * SCORED)
    predicted = training_flops(sizes, numerics, micro_batch)
    assert predicted.total == pytest.approx(counter.get_total_flops(), rel=FLOPS_TOLERANCE)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_of_half_precision_at_full_size(checkpointing):
    sizes = _sizes("llama_7b", online=False)
    numerics = Numerics(precision="bf16", checkpointing=checkpointing)
    model = build_random_model(sizes, numerics, device="meta")
    batch = random_batch(sizes, lengths=[WIDTH] * ROWS, scored=SCORED, image_rows=IMAGE_ROWS)
    images = random_images(sizes, IMAGE_ROWS).to("meta")
    with values_unknown(), TensorMemory() as memory:
        memory.add([*model.parameters(), images])
        logits, targets, _ = model.labelled_logits(batch, images)
        token_losses(logits, targets).mean().backward()
    micro_batch = MicroBatch(rows=ROWS, image_rows=IMAGE_ROWS, width=WIDTH, scored=ROWS * SCORED)
    predicted = training_memory(sizes, numerics, micro_batch, device="cpu")
    before_the_optimizer = predicted.tensors - predicted.optimizer
    assert before_the_optimizer == pytest.approx(memory.peak_bytes, rel=MEMORY_TOLERANCE)
    assert not any(p.device != torch.device("meta") for p in model.parameters())
