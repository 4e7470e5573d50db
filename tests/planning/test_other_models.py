"""Protects plans for decoders and towers that no formula covers: real models, without memory."""

import dataclasses
import json
from functools import cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ademvl.config.method import ClipAdapterSettings
from ademvl.config.run import BackboneSettings
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.planning.adem_formula import formula_of
from ademvl.planning.costs import costs_of, sizes_with
from ademvl.planning.flops import training_flops
from ademvl.planning.memory import training_memory
from ademvl.planning.random_model import build_random_model
from ademvl.planning.shapes import VisionShape, known_models, llm_shape, vision_shape
from ademvl.planning.sizes import MicroBatch, Numerics
from ademvl.vision.tower import load_tower
from benchmarks.plan_predictions import measure_step
from tests.decoder_families import FAMILIES
from tests.tower_kinds import KINDS, make_tower

BATCH = MicroBatch(rows=2, image_rows=2, width=24, scored=4)
ADEM = AdemSettings(scales=(4, 1), projection_width=8, clip_adapter=ClipAdapterSettings(dim=4))
CLIP = VisionShape(width=16, blocks=3, image_size=16, patch_size=4, head_width=8)
LIKE_LLAMA = ("Llama 3", "Mistral")
AGREES = 0.02
"""Elementwise work that torch counts on real tensors alone."""
KEPT = 0.15


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny decoders as saved by transformers, by family."""
    root = tmp_path_factory.mktemp("decoders")
    for number, family in enumerate(FAMILIES.values()):
        family.decoder(vocabulary=60, width=32, layers=2).save_pretrained(root / str(number))
    return {name: root / str(number) for number, name in enumerate(FAMILIES)}


@pytest.fixture(scope="module")
def towers(tmp_path_factory):
    return cache(lambda kind: make_tower(kind, tmp_path_factory.mktemp("tower")))


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_of_a_decoder_are_those_of_the_model(folders, family):
    shape = llm_shape(BackboneSettings(llm=str(folders[family])))
    real = FAMILIES[family].decoder(vocabulary=60, width=32, layers=2)
    assert shape.parameters == sum(parameter.numel() for parameter in real.parameters())
    assert bool(shape.config) == (family not in LIKE_LLAMA)
    matrices = [part for part in real.model.layers.modules() if isinstance(part, torch.nn.Linear)]
    assert shape.layers_parameters == sum(matrix.weight.numel() for matrix in matrices)


@pytest.mark.parametrize("family", ["Qwen 3", "Gemma 3", "Phi", "OLMo 2"])
def test_a_real_step_of_a_decoder_takes_what_is_predicted(folders, family):
    llm = llm_shape(BackboneSettings(llm=str(folders[family])))
    sizes = sizes_with(ADEM, llm=llm, vision=CLIP, online=False)
    kept, operations, _ = measure_step(sizes, Numerics(), BATCH, device="cpu")
    predicted = training_flops(sizes, Numerics(), BATCH)
    assert predicted.total == pytest.approx(operations, rel=AGREES)
    memory = training_memory(sizes, Numerics(), BATCH, device="cpu")
    assert memory.tensors == pytest.approx(kept, rel=KEPT)


@pytest.mark.parametrize("settings", [LoraSettings(rank=2), LavinSettings(cls_blocks=(0, 1))])
def test_methods_are_counted_on_heads_of_another_width(folders, settings):
    llm = llm_shape(BackboneSettings(llm=str(folders["Gemma 3"])))
    sizes = sizes_with(settings, llm=llm, vision=CLIP, online=False)
    model = build_random_model(sizes, Numerics(), device="cpu")
    assert type(model.llm).__name__ == "Gemma3ForCausalLM"
    trained = sum(parameter.numel() for parameter in model.method.parameters())
    assert sizes.trained == trained


def test_few_layers_keep_what_their_configuration_says_of_each(folders):
    llm = llm_shape(BackboneSettings(llm=str(folders["Gemma 3"])))
    sizes = sizes_with(ADEM, llm=llm, vision=CLIP, online=False)
    model = build_random_model(sizes, Numerics(), layers=[1])
    (layer,) = model.llm.model.layers
    assert layer.self_attn.layer_idx == 1
    assert layer.self_attn.sliding_window is None  # layer 0 has one
    assert model.llm.config.layer_types == ["sliding_attention", "full_attention"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tower_is_counted_and_measured_as_it_is(towers, kind):
    vision, tower = vision_shape(towers(kind)), load_tower(towers(kind))
    assert vision.parameters == sum(parameter.numel() for parameter in tower.parameters())
    assert (vision.grid_tokens, vision.blocks) == (tower.num_grid_tokens, 3)
    llm = known_models()["llama-7b"]
    llm = dataclasses.replace(llm, width=32, ffn_width=64, layers=2, heads=2, kv_heads=2)
    cached = sizes_with(ADEM, llm=llm, vision=vision, online=False)
    assert formula_of(ADEM, llm, vision, online=False) is not None
    pixels = torch.zeros(2, 3, tower.image_size, tower.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower.encode(pixels, ADEM.tower_states)
    assert costs_of(cached).tower(2, training=False) == counter.get_total_flops()


@pytest.mark.parametrize("kind", ["SigLIP", "ConvNeXt", "DINOv3"])
def test_a_real_step_with_a_tower_takes_what_is_predicted(towers, kind):
    llm = dataclasses.replace(
        known_models()["llama-7b"], width=32, ffn_width=64, layers=2, heads=2, kv_heads=2,
        head_dim=16, vocabulary=60,
    )  # fmt: skip
    sizes = sizes_with(ADEM, llm=llm, vision=vision_shape(towers(kind)), online=True)
    kept, operations, _ = measure_step(sizes, Numerics(), BATCH, device="cpu")
    predicted = training_flops(sizes, Numerics(), BATCH)
    assert predicted.total == pytest.approx(operations, rel=AGREES)
    memory = training_memory(sizes, Numerics(), BATCH, device="cpu")
    assert memory.tensors == pytest.approx(kept, rel=KEPT)


def test_known_models_of_other_families_are_built_by_their_configuration():
    for name, shape in known_models().items():
        if shape.config:
            assert json.loads(shape.config)["model_type"], name
