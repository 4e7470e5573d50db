"""Protects the formulas: memory, operations and counts beside those of real models and steps."""

from types import SimpleNamespace

import pytest
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ademvl.config.method import ClipAdapterSettings
from ademvl.data.images import preprocessing_for
from ademvl.methods.adem.settings import AdemSettings
from ademvl.planning.costs import sizes_with, trained_parameters
from ademvl.planning.flops import evaluation_flops, training_flops
from ademvl.planning.memory import KEPT_PIXELS_BYTES, training_memory
from ademvl.planning.parameter_counts import LLAMAS, VIT_L, count_parameters
from ademvl.planning.random_model import build_random_model, random_batch, random_images
from ademvl.planning.shapes import LlmShape, VisionShape, known_models
from ademvl.planning.sizes import MicroBatch, Numerics
from ademvl.vision.features.source import MAX_PIXEL_BYTES, online_pixels
from benchmarks.plan_predictions import measure_step

LLM = LlmShape(width=96, ffn_width=256, layers=3, heads=6, kv_heads=6, head_dim=16, vocabulary=300)
VISION = VisionShape(width=64, blocks=4, image_size=32, patch_size=8, head_width=16)
METHOD = AdemSettings(scales=(16, 4), projection_width=16, clip_adapter=ClipAdapterSettings(dim=4))
SCORED = 5
MEMORY_TOLERANCE, FLOPS_TOLERANCE = 0.15, 0.05  # what the documentation promises


def _sizes(*, online, method=METHOD, llm=LLM):
    return sizes_with(method, llm=llm, vision=VISION, online=online)


CASES = [
    pytest.param(online, precision, checkpointing, rows, width, image_rows, id=name)
    for name, online, precision, checkpointing, rows, width, image_rows in [
        ("cached", False, "fp32", False, 4, 60, 4),
        ("cached, text only", False, "fp32", False, 4, 60, 0),
        ("cached, bf16", False, "bf16", False, 2, 120, 1),
        ("online", True, "fp32", False, 4, 60, 2),
        ("online, bf16", True, "bf16", False, 8, 40, 8),
        ("online, checkpointing", True, "fp32", True, 4, 120, 4),
    ]
]


@pytest.mark.parametrize(
    ("online", "precision", "checkpointing", "rows", "width", "image_rows"), CASES
)
def test_a_step_takes_what_is_predicted(online, precision, checkpointing, rows, width, image_rows):
    sizes = _sizes(online=online)
    numerics = Numerics(precision=precision, checkpointing=checkpointing)
    micro_batch = MicroBatch(rows=rows, image_rows=image_rows, width=width, scored=rows * SCORED)
    peak_bytes, operations, trained = measure_step(sizes, numerics, micro_batch, device="cpu")
    assert trained == sizes.trained
    predicted = training_memory(sizes, numerics, micro_batch, device="cpu")
    flops = training_flops(sizes, numerics, micro_batch)
    assert predicted.tensors == pytest.approx(peak_bytes, rel=MEMORY_TOLERANCE)
    assert flops.total == pytest.approx(operations, rel=FLOPS_TOLERANCE)


@pytest.mark.parametrize("new_tokens", [1, 4])
@pytest.mark.parametrize("online", [False, True])
def test_answering_takes_the_predicted_operations(online, new_tokens):
    from ademvl.evaluation.generation import generate

    sizes = _sizes(online=online)
    rows, width, image_rows = 4, 30, 2
    model = build_random_model(sizes, Numerics()).eval()
    batch = random_batch(sizes, lengths=[width] * rows, scored=0, image_rows=image_rows)
    with FlopCounterMode(display=False) as counter:
        generate(
            model,
            batch,
            random_images(sizes, image_rows),
            max_new_tokens=new_tokens,
            eos_id=sizes.llm.vocabulary,
        )
    predicted = evaluation_flops(
        sizes,
        MicroBatch(rows=rows, image_rows=image_rows, width=width, scored=rows),
        new_tokens=new_tokens,
    )
    assert predicted == pytest.approx(counter.get_total_flops(), rel=FLOPS_TOLERANCE)


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scales": (256,), "cls": False},
        {"fusion": "none", "visual_tokens": 64},
        {"fusion": "none"},
        {"clip_adapter": ClipAdapterSettings(last_block=False, dim=3)},
    ],
    ids=str,
)
def test_formula_counts_the_trained_parameters_of_real_modules(changes, online):
    settings = AdemSettings(**changes)
    vision = VisionShape(width=1024, blocks=24, image_size=224, patch_size=14)
    real = count_parameters(settings, llm=LLAMAS["LLaMA-7B"], tower=VIT_L, online=online)
    llm = known_models()["llama_7b"]
    formula = trained_parameters(settings, llm=llm, vision=vision, online=online)
    assert formula == real


def test_pixels_that_are_kept_are_those_of_training():
    assert KEPT_PIXELS_BYTES == MAX_PIXEL_BYTES


def test_kept_images_take_what_online_training_keeps_of_them(tmp_path):
    images = tuple(tmp_path / f"{number}.png" for number in range(5))
    for path in images:
        Image.new("RGB", (50, 40)).save(path)
    source = online_pixels(preprocessing_for("scienceqa", VISION.image_size))
    source.for_batch(SimpleNamespace(item_ids=tuple(map(str, range(len(images)))), images=images))
    kept = sum(image.nbytes for image in source._kept.values())

    batch = MicroBatch(rows=1, image_rows=1, width=8, scored=1)
    memory = training_memory(
        _sizes(online=True), Numerics(), batch, device="cpu", kept_images=len(images)
    )
    assert memory.kept_pixels == kept


def test_averages_of_weights_take_a_copy_more_of_the_trained_parameters():
    sizes, batch = _sizes(online=False), MicroBatch(rows=1, image_rows=1, width=8, scored=1)
    plain, averaged = (
        training_memory(sizes, Numerics(averages=averages), batch, device="cpu")
        for averages in (False, True)
    )
    assert averaged.optimizer - plain.optimizer == 4 * sizes.trained
    assert averaged.total - plain.total == 4 * sizes.trained
