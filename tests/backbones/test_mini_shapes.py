"""Protects the shipped tower of many_shapes: its recipe, and what its features tell."""

import json
import random
from dataclasses import replace

import pytest
import torch

from ademvl.backbones.mini_clip_model import (
    MiniClipSettings,
    build_model,
    load_mini_clip,
    load_tokenizer,
    open_clip_config,
)
from ademvl.backbones.mini_shapes_clip import (
    NUM_SCENES,
    SETTINGS,
    covered_patches,
    scenes_loss,
    train_mini_shapes_clip,
)
from ademvl.backbones.mini_shapes_clip_scores import evaluate_mini_shapes_clip
from ademvl.config.mini_backbones import MINI_TOWERS
from ademvl.config.run import BackboneSettings
from ademvl.data.scene_captions import caption_words
from ademvl.data.scenes import draw_scene
from ademvl.storage.files import sha256_file
from ademvl.vision.tower import load_tower

CLIP_DIR = MINI_TOWERS["mini_shapes"]
TINY_CLIP = replace(SETTINGS, vision_layers=2, vision_width=32, text_layers=1, batch_size=4)


def recipe_of(folder):
    return json.loads((folder / "RECIPE.json").read_text(encoding="utf-8"))


def test_shipped_tower_is_that_of_its_recipe():
    recipe = recipe_of(CLIP_DIR)

    names = ("config.json", "model.safetensors")
    assert recipe["sha256"] == {name: sha256_file(CLIP_DIR / name) for name in names}
    assert MiniClipSettings(**recipe["settings"]) == SETTINGS
    assert recipe["train_images"] == NUM_SCENES
    config = json.loads((CLIP_DIR / "config.json").read_text(encoding="utf-8"))
    assert config == open_clip_config(SETTINGS, caption_words())


def test_the_name_loads_the_weights():
    tower = load_tower(BackboneSettings(tower="mini_shapes"))

    assert tower.num_grid_tokens == 64
    assert tower.name == "mini_shapes"
    shipped = load_mini_clip(CLIP_DIR).visual.conv1.weight
    assert torch.equal(tower.visual.conv1.weight, shipped)


def test_grid_tokens_tell_what_and_where_and_cls_does_not_tell_all():
    metrics, recorded = evaluate_mini_shapes_clip(CLIP_DIR), recipe_of(CLIP_DIR)["metrics"]

    assert metrics == pytest.approx(recorded, abs=0.02)
    assert metrics["patch color"] > 0.97
    assert metrics["patch shape"] > 0.85
    assert metrics["patch place"] > 0.97
    assert metrics["cls color of the largest"] > 0.97
    assert metrics["cls color of the smallest"] < 0.5


def test_covered_patches_are_those_of_the_box():
    item = draw_scene(random.Random(0)).objects[0]

    patches = covered_patches(item, 8).view(8, 8)

    left, top, right, bottom = item.box
    rows, columns = (patches.sum(dim=axis).nonzero().flatten().tolist() for axis in (1, 0))
    assert (rows[0], rows[-1]) == (int(top // 8), int(bottom // 8))
    assert (columns[0], columns[-1]) == (int(left // 8), int(right // 8))
    assert float(patches.sum()) == pytest.approx(1)


def test_training_the_tower_twice_gives_the_same_weights(tmp_path, monkeypatch):
    few = {"fitted": 40, "measured": 20}
    monkeypatch.setattr("ademvl.backbones.mini_shapes_clip_scores.NUM_SCENES", few)
    state = torch.random.get_rng_state()
    recipes = [
        train_mini_shapes_clip(tmp_path / name, TINY_CLIP, num_scenes=8) for name in ("a", "b")
    ]
    other = train_mini_shapes_clip(tmp_path / "c", replace(TINY_CLIP, seed=1), num_scenes=8)

    assert torch.equal(torch.random.get_rng_state(), state)
    assert recipes[0]["sha256"] == recipes[1]["sha256"] != other["sha256"]


def test_the_shipped_tower_has_a_lower_loss_than_an_untrained_one():
    scenes = [draw_scene(random.Random(seed)) for seed in range(24)]
    with torch.no_grad():
        losses = [
            float(scenes_loss(model, scenes, load_tokenizer(CLIP_DIR), random.Random(0)))
            for model in (
                load_mini_clip(CLIP_DIR),
                build_model(open_clip_config(SETTINGS, caption_words()), seed=0),
            )
        ]
    assert losses[0] < losses[1] / 2
