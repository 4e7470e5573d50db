"""Protects the pixels that reach the tower; golden case H is in tests/golden."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ademvl.data.augmentation import augment_for_captions, augmentation_generator
from ademvl.data.image_files import check_decodable, open_rgb
from ademvl.data.images import (
    CLIP_MEAN_STD,
    IMAGENET_MEAN_STD,
    Preprocessing,
    load_augmented_pixels,
    load_pixels,
    preprocessing_for,
)
from ademvl.errors import DataError

PLAIN = Preprocessing(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def png_bytes(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def noise(width: int, height: int) -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def test_image_of_the_right_size_is_only_rescaled():
    image = noise(8, 8)
    pixels = load_pixels(png_bytes(image), PLAIN)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert torch.equal(pixels, expected)
    assert pixels.dtype == torch.float32
    assert pixels.is_contiguous()


def test_mean_and_std_act_on_their_own_channel():
    preprocessing = Preprocessing(4, (0.0, 0.5, 1.0), (1.0, 2.0, 4.0))
    white = load_pixels(png_bytes(Image.new("RGB", (9, 5), "white")), preprocessing)
    assert white.amin(dim=(1, 2)).tolist() == white.amax(dim=(1, 2)).tolist() == [1.0, 0.25, 0.0]


def test_whole_image_is_squashed_not_cropped():
    wide = Image.new("RGB", (64, 8))
    wide.paste((255, 0, 0), (0, 0, 32, 8))
    pixels = load_pixels(png_bytes(wide), PLAIN)
    assert pixels[0, :, 0].min() == 1
    assert pixels[0, :, 7].max() == 0


def test_transparency_is_discarded():
    clear = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    pixels = load_pixels(png_bytes(clear), PLAIN)
    assert torch.allclose(pixels[:, 0, 0] * 255, torch.tensor([200.0, 100.0, 50.0]))


def test_constants_are_those_of_the_golden_set(golden_dir):
    content = json.loads((golden_dir / "H_images.json").read_text(encoding="utf-8"))["mean_std"]
    assert [list(part) for part in IMAGENET_MEAN_STD] == content["sqa"]
    assert [list(part) for part in CLIP_MEAN_STD] == content["caption"]
    science, captions = (preprocessing_for(task, 64) for task in ("scienceqa", "coco_caption"))
    assert (science.mean, science.std) == IMAGENET_MEAN_STD
    assert (captions.mean, captions.std) == CLIP_MEAN_STD


def test_identity_tells_preprocessings_apart():
    variants = [
        preprocessing_for("scienceqa", 224),
        preprocessing_for("scienceqa", 64),
        preprocessing_for("coco_caption", 224),
    ]
    assert len({variant.identity() for variant in variants}) == 3
    assert variants[0].identity() == preprocessing_for("scienceqa", 224).identity()


def test_damaged_images_are_named(tmp_path):
    good = png_bytes(noise(40, 40))
    contents = {"good": good, "cut": good[:900], "text": b"hello", "empty": b""}
    paths = []
    for name, content in contents.items():
        paths.append(tmp_path / f"{name}.png")
        paths[-1].write_bytes(content)
    for path in paths[1:]:
        with pytest.raises(DataError, match=rf"{path.name}: does not decode"):
            load_pixels(path, PLAIN)
    with pytest.raises(DataError, match=r"gone\.png: does not decode as an image \(no such file"):
        open_rgb(tmp_path / "gone.png")
    check_decodable(paths[:1])
    with pytest.raises(DataError) as caught:
        check_decodable(paths)
    assert "(3 found)" in str(caught.value)
    assert "good.png" not in str(caught.value)


def test_augmentation_depends_on_seed_epoch_and_item_only():
    image = noise(50, 30)

    def draw(**changes):
        key = {"seed": 1, "epoch": 2, "item_id": "x"} | changes
        return augment_for_captions(image, size=16, generator=augmentation_generator(**key))

    first = draw()
    assert first.size == (16, 16)
    assert first.tobytes() == draw().tobytes()
    for changes in ({"seed": 5}, {"epoch": 3}, {"item_id": "y"}):
        assert first.tobytes() != draw(**changes).tobytes()


def test_augmentation_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    generator = augmentation_generator(seed=0, epoch=0, item_id="x")
    load_augmented_pixels(png_bytes(noise(9, 9)), PLAIN, generator)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (300, 2), (2, 300), (64, 64)])
def test_augmentation_works_on_any_shape(width, height):
    for number in range(40):
        generator = augmentation_generator(seed=number, epoch=0, item_id="x")
        pixels = load_augmented_pixels(png_bytes(noise(width, height)), PLAIN, generator)
        assert pixels.shape == (3, 8, 8)
        assert pixels.isfinite().all()


def test_crops_cover_half_to_all_of_the_image():
    from ademvl.data.augmentation import CROP_RATIO, CROP_SCALE, _crop_box

    for number in range(200):
        generator = torch.Generator().manual_seed(number)
        left, top, right, bottom = _crop_box(400, 300, generator)
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300
        share = (right - left) * (bottom - top) / (400 * 300)
        assert CROP_SCALE[0] - 0.01 <= share <= CROP_SCALE[1] + 0.01
        if share < 1:
            assert CROP_RATIO[0] - 0.02 <= (right - left) / (bottom - top) <= CROP_RATIO[1] + 0.02


def test_normalization_of_the_tower_can_be_had_for_all_tasks():
    for task in ("scienceqa", "coco_caption"):
        for name, expected in (("clip", CLIP_MEAN_STD), ("imagenet", IMAGENET_MEAN_STD)):
            preprocessing = preprocessing_for(task, 64, name)
            assert (preprocessing.mean, preprocessing.std) == expected
