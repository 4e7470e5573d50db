"""Protects the pixels that reach the tower; golden case H is in tests/golden."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from ademvl.data.augmentation import augment_for_captions, augmentation_generator
from ademvl.data.image_files import check_decodable, open_rgb, resize_to_square
from ademvl.data.images import (
    CLIP_MEAN_STD,
    IMAGENET_MEAN_STD,
    Preprocessing,
    load_augmented_pixels,
    load_pixels,
    preprocessing_for,
)
from ademvl.errors import DataError
from ademvl.reporting.fusion_maps.drawing import _load
from ademvl.reporting.page.thumbnails import _shrink

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


def test_resampling_is_that_of_pillow_13_whatever_the_version():
    found = hashlib.sha256()
    for width, height in ((103, 494), (36, 40), (36, 41), (20, 33), (90, 60)):
        for box in (None, (1, 2, width - 3, height - 4)):
            found.update(resize_to_square(noise(width, height), 32, box=box).tobytes())
    # of Image.resize((32, 32), BICUBIC, box=box), Pillow 13.0.0
    assert found.hexdigest() == "c0ae7cc8f5484fc5d2d1123856ef4e002d724aff29aeeed266e8271700dbdc05"


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


def grey(levels, dtype):
    return Image.fromarray(np.array([levels], dtype))


LEVELS = [0, 255, 256, 4660, 32767, 65535]
HIGH_BYTES = [0, 0, 1, 18, 127, 255]


def _pgm(path):
    content = np.array(LEVELS, ">u2").tobytes()
    path.write_bytes(f"P5\n{len(LEVELS)} 1\n65535\n".encode() + content)


SIXTEEN_BITS = {
    "grey.png": lambda path: grey(LEVELS, np.uint16).save(path),
    "grey.tiff": lambda path: grey(LEVELS, np.uint16).save(path),
    "big_endian.tiff": lambda path: grey(LEVELS, ">u2").save(path),
    "grey.pgm": _pgm,
}


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_levels_of_16_bits_are_those_of_their_high_bytes(tmp_path, name):
    SIXTEEN_BITS[name](tmp_path / name)
    found = np.asarray(open_rgb(tmp_path / name))
    assert found[0].tolist() == [[level] * 3 for level in HIGH_BYTES]


def test_a_ramp_of_16_bits_keeps_its_levels():
    found = np.asarray(open_rgb(Path(__file__).parent / "images/grey_16_bit.png"))
    assert found.mean() == pytest.approx(127, abs=1)
    assert len(np.unique(found)) == 256


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_white_are_refused(tmp_path, dtype):
    grey([0, 1, 100], dtype).save(tmp_path / "deep.tiff")
    with pytest.raises(DataError, match=r"deep\.tiff: .*pixels have 32 bits; save it with 8 bits"):
        open_rgb(tmp_path / "deep.tiff")


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_pictures_of_8_bits_are_plainly_converted(tmp_path, mode):
    """As in the reference: cached features of them stay."""
    suffix = "tiff" if mode in ("CMYK", "YCbCr") else "png"
    path = tmp_path / f"image.{suffix}"
    noise(16, 9).convert(mode).save(path)
    if mode == "YCbCr" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip(f"Pillow {PIL.__version__} reads no such TIFF that it wrote itself")
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    assert (np.asarray(open_rgb(path)) == expected).all()


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (20_000, 3)])
def test_very_wide_and_high_images_are_read_and_drawn(tmp_path, size):
    path = tmp_path / "wide.png"
    Image.new("RGB", size, "red").save(path)
    assert load_pixels(path, PLAIN)[0].min() == 1
    picture = np.asarray(_load(path))
    assert picture.shape[0] <= 1024
    assert (picture == (255, 0, 0)).all()
    (width, height), _ = _shrink(path)
    assert max(width, height) == 320
    assert min(width, height) == 1


def test_pages_and_figures_show_what_models_see(tmp_path):
    path = tmp_path / "turned.png"
    image = Image.new("RGBA", (8, 4), (255, 0, 0, 0))  # hidden red
    image.paste((0, 0, 255, 255), (0, 0, 4, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    seen = np.asarray(open_rgb(path))
    assert seen.shape == (4, 8, 3)
    assert (np.asarray(_load(path)) == np.asarray(open_rgb(path).resize((8, 8)))).all()
    size, content = _shrink(path)
    assert size == (8, 4)
    with Image.open(io.BytesIO(content)) as thumbnail:
        assert thumbnail.mode == "RGB"
        assert not thumbnail.getexif()
        assert np.median(np.abs(np.asarray(thumbnail, int) - seen)) < 5  # WebP is lossy
