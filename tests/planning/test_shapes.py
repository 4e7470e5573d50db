"""Protects the sizes of models that are not there, and those read from their files."""

import json

import pytest

from ademvl.config.run import BackboneSettings
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.planning.shapes import LlmShape, VisionShape, known_models, llm_shape, vision_shape
from tests.conftest import PROJECT_ROOT


def _llm(name):
    return llm_shape(BackboneSettings(llm=str(name)))


# Published numbers of parameters: of the releases' checkpoints, and of the model cards.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("huggyllama/llama-7b", 6_738_415_616),
        ("results/shared/downloads/llama_13b", 13_015_864_320),
        ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
        ("HuggingFaceTB/SmolLM2-135M", 134_515_008),
    ],
)
def test_known_models_have_their_published_number_of_parameters(name, parameters):
    assert _llm(name).parameters == parameters


def test_every_known_model_names_its_source():
    assert all(shape.source for shape in known_models().values())


def test_mini_language_model_is_counted_as_it_is_loaded():
    from ademvl.llm.loading import load_llm

    llm = load_llm(BackboneSettings())
    assert _llm("mini").parameters == sum(p.numel() for p in llm.parameters())


def test_mini_tower_is_counted_as_it_is_loaded():
    from ademvl.vision.tower import load_tower

    tower = load_tower(BackboneSettings())
    shape = vision_shape(BackboneSettings())
    assert (shape.width, shape.blocks, shape.grid_tokens) == (128, 5, 64)
    projection = tower.visual.proj.numel()
    assert shape.parameters == sum(p.numel() for p in tower.visual.parameters()) - projection


def test_clip_vit_l_14_is_known_without_its_weights():
    shape = vision_shape(BackboneSettings(tower="ViT-L-14-quickgelu"))
    assert (shape.width, shape.blocks, shape.grid_tokens) == (1024, 24, 256)
    assert shape.has_quick_gelu
    # open_clip's visual part of ViT-L-14 has 303,966,208 with its projection to 768.
    assert shape.parameters == 303_966_208 - 1024 * 768


def test_metas_params_give_the_width_of_the_mlp(tmp_path):
    params = {"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "vocab_size": -1}
    params["norm_eps"] = 1e-6
    (tmp_path / "params.json").write_text(json.dumps(params), encoding="utf-8")
    shape = _llm(tmp_path)
    assert (shape.ffn_width, shape.vocabulary) == (11008, 32000)
    assert shape.parameters == known_models()["llama_7b"].parameters


def test_config_of_a_folder_decides_over_the_table(tmp_path):
    folder = tmp_path / "llama_7b"
    folder.mkdir()
    config = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 10,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert isinstance(_llm(folder), LlmShape)
    assert _llm(folder).width == 8


def test_gguf_file_of_the_laptop_study_is_known_before_it_is_there():
    study = load_study(PROJECT_ROOT / "workflow/studies/laptop.yaml")
    assert llm_shape(study.runs[0].backbones).parameters == 134_515_008


def test_unknown_model_names_those_that_are_known():
    with pytest.raises(SettingsError, match=r"sizes are not known.*llama_7b"):
        _llm("someone/else-3b")


def test_config_without_a_gated_mlp_is_refused(tmp_path):
    config = {"hidden_size": 8, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(SettingsError, match="no key intermediate_size"):
        _llm(tmp_path)


def test_unknown_tower_is_refused():
    with pytest.raises(SettingsError, match="open_clip knows no model 'ViT-X'"):
        vision_shape(BackboneSettings(tower="ViT-X"))


def test_shapes_are_those_of_plain_arithmetic():
    vision = VisionShape(width=8, blocks=2, image_size=16, patch_size=4)
    assert (vision.tokens, vision.mlp_width) == (17, 32)
