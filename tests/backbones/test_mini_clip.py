"""Protects the shipped mini CLIP (integrity, size, accuracy) and the code that trained it."""

import json
import shutil

import pytest
import torch

from ademvl.backbones.mini_clip import train_mini_clip
from ademvl.backbones.mini_clip_data import (
    CLASSES,
    NORMALIZATIONS,
    WordTokenizer,
    load_captioned,
    load_test_images,
    move_shapes,
    normalize,
    shape_boxes,
    vocabulary,
)
from ademvl.backbones.mini_clip_model import (
    MINI_CLIP_DIR,
    MiniClipSettings,
    encode_images,
    load_mini_clip,
    load_tokenizer,
    open_clip_config,
)
from ademvl.backbones.mini_clip_scores import embed_classes, evaluate_mini_clip
from ademvl.config.dataset import DatasetSettings
from ademvl.data.mini import convert_easy_vqa
from ademvl.errors import DataError, SettingsError, WeightsError
from ademvl.storage.files import sha256_file

MAX_BYTES = 3 * 2**20
TINY = MiniClipSettings(
    patch_size=16, vision_layers=2, vision_width=32, head_width=16, text_layers=1, text_width=32,
    epochs=2, batch_size=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini") / "data"
    settings = DatasetSettings(
        train_questions=40,
        val_questions=40,
        test_questions=40,
        caption_train_images=240,
        caption_test_images=200,
    )
    convert_easy_vqa(folder, settings)
    return folder


@pytest.fixture(scope="module")
def test_images(data_dir):
    return load_captioned(data_dir, "test", image_size=64)


@pytest.fixture(scope="module")
def recipe():
    return json.loads((MINI_CLIP_DIR / "RECIPE.json").read_text(encoding="utf-8"))


def test_shipped_files_are_those_of_the_recipe(recipe):
    assert recipe["sha256"] == {
        name: sha256_file(MINI_CLIP_DIR / name) for name in ("config.json", "model.safetensors")
    }


def test_shipped_model_was_trained_with_the_default_settings(recipe):
    assert MiniClipSettings(**recipe["settings"]) == MiniClipSettings()
    config = json.loads((MINI_CLIP_DIR / "config.json").read_text(encoding="utf-8"))
    assert config == open_clip_config(MiniClipSettings())


def test_shipped_files_are_small():
    assert sum(path.stat().st_size for path in MINI_CLIP_DIR.iterdir()) <= MAX_BYTES


def test_recorded_accuracy_reaches_the_mark(recipe):
    for name in NORMALIZATIONS:
        assert recipe["metrics"][name]["zero_shot"] >= 0.96
        assert recipe["metrics"][name]["probe_grid"] >= 0.97


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@torch.no_grad()
def test_shipped_model_names_colours_and_shapes_zero_shot(test_images, normalization):
    model = load_mini_clip()
    images = encode_images(model, normalize(test_images.pixels, normalization))["final"]
    predicted = (images @ embed_classes(model, load_tokenizer()).T).argmax(dim=1)
    assert (predicted == test_images.classes).float().mean() >= 0.93


def test_shipped_model_is_fp32_and_uses_quick_gelu():
    from open_clip.transformer import QuickGELU

    model = load_mini_clip()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert not model.training
    block = model.visual.transformer.resblocks[0]
    assert any(isinstance(module, QuickGELU) for module in block.mlp)


def test_training_twice_gives_the_same_weights(data_dir, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        global_state = torch.random.get_rng_state()
        first = train_mini_clip(tmp_path / "first", data_dir, TINY, progress=False)
        second = train_mini_clip(tmp_path / "second", data_dir, TINY, progress=False)
        assert torch.equal(torch.random.get_rng_state(), global_state)
    finally:
        torch.set_num_threads(threads)
    assert first["sha256"] == second["sha256"]
    assert first["metrics"] == second["metrics"] == evaluate_mini_clip(tmp_path / "first", data_dir)
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == [
        "RECIPE.json",
        "config.json",
        "model.safetensors",
    ]


def test_another_seed_gives_other_weights(data_dir, tmp_path):
    from dataclasses import replace

    recipes = [
        train_mini_clip(tmp_path / str(seed), data_dir, replace(TINY, seed=seed, epochs=1))
        for seed in (0, 1)
    ]
    digests = {recipe["sha256"]["model.safetensors"] for recipe in recipes}
    assert len(digests) == 2


def test_missing_weights_are_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json: missing"):
        load_mini_clip(tmp_path)


def test_changed_weights_are_an_error(tmp_path):
    shutil.copytree(MINI_CLIP_DIR, tmp_path / "model")
    path = tmp_path / "model/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="SHA-256"):
        load_mini_clip(tmp_path / "model")


def test_truncated_weights_without_recipe_are_an_error(tmp_path):
    shutil.copytree(MINI_CLIP_DIR, tmp_path / "model")
    (tmp_path / "model/RECIPE.json").unlink()
    path = tmp_path / "model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="does not fit"):
        load_mini_clip(tmp_path / "model")


def test_moving_a_shape_keeps_it_whole(test_images):
    pixels = test_images.pixels
    boxes = shape_boxes(pixels)
    moved = move_shapes(pixels, boxes, torch.Generator().manual_seed(0))
    moved_boxes = shape_boxes(moved)
    sizes = boxes[:, 1::2] - boxes[:, ::2]
    assert torch.equal(moved_boxes[:, 1::2] - moved_boxes[:, ::2], sizes)
    assert torch.equal(moved.flatten(2).sort().values, pixels.flatten(2).sort().values)
    assert (moved_boxes != boxes).any(dim=1).float().mean() > 0.9


def test_classes_of_captioned_images_are_those_of_their_captions(test_images):
    for label, captions in zip(test_images.classes.tolist(), test_images.captions, strict=True):
        assert all(set(CLASSES[label]) <= set(caption.split()) for caption in captions)


def test_test_images_of_both_layouts_are_counted_once(data_dir, test_images):
    images = load_test_images(data_dir, image_size=64)
    unique = {image.numpy().tobytes() for image in images.pixels}
    assert len(unique) == len(images) > len(test_images)


def test_image_of_another_size_is_an_error(data_dir):
    with pytest.raises(DataError, match="64 x 64 pixels, expected 32 x 32"):
        load_captioned(data_dir, "test", image_size=32)


def test_tokenizer_ends_texts_with_the_highest_id():
    tokenizer = WordTokenizer(vocabulary(), context_length=16)
    ids = tokenizer(["a red circle", "a picture of a teal triangle"])
    assert ids.shape == (2, 16)
    assert ids.argmax(dim=1).tolist() == [3, 6]
    assert ids.max() == tokenizer.vocab_size - 1


def test_tokenizer_names_unknown_words():
    with pytest.raises(ValueError, match="unknown word 'purple'"):
        WordTokenizer(vocabulary(), context_length=16)(["a purple circle"])


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingsError, match=r"mini_clip\.epochs"):
        MiniClipSettings(epochs=0)
