"""Protects the way from image files through a tower into the cache."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ademvl.config.method import TowerStates
from ademvl.data.images import Preprocessing, load_pixels
from ademvl.errors import DataError
from ademvl.vision.features.cache import EnsureReport, FeatureCache
from ademvl.vision.features.extraction import Extraction
from ademvl.vision.features.namespace import FeatureKey
from ademvl.vision.tower import PENULTIMATE

PREPROCESSING = Preprocessing(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class TinyTower(nn.Module):
    """One matrix on 2 x 2 patches of 8 x 8 pixels, and their mean as the class token."""

    fingerprint = "tiny"

    def __init__(self, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(3 * 16, 5, generator=generator, dtype=torch.float32)
        self.dropout = nn.Dropout()
        self.weight = nn.Parameter(weight.to(dtype))
        self.batch_sizes: list[int] = []

    def describe(self, states: TowerStates) -> str:
        return f"patches {states.tokens}"

    def encode(self, pixels: Tensor, states: TowerStates = PENULTIMATE) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batch_sizes.append(len(pixels))
        patches = nn.functional.unfold(pixels, kernel_size=4, stride=4)  # (B, 48, 4)
        grid = patches.transpose(1, 2) @ self.weight  # (B, 4, 5)
        return torch.cat((grid.mean(dim=1, keepdim=True), grid), dim=1)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    generator = torch.Generator().manual_seed(1)
    paths = [tmp_path / f"{number}.png" for number in range(11)]
    for path in paths:
        levels = torch.randint(0, 256, (8, 8, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(levels.numpy()).save(path)
    return paths


def read(tmp_path: Path, images: list[Path], precision: str = "fp32") -> Tensor:
    key = FeatureKey(PREPROCESSING.identity(), "tiny", precision, "patches all")
    with FeatureCache(tmp_path / "cache", key).open(images) as reader:
        return reader.read(images)


def extract(
    tower: nn.Module,
    tmp_path: Path,
    images: list[Path],
    *,
    precision: str = "fp32",
    preprocessing: Preprocessing = PREPROCESSING,
) -> EnsureReport:
    words = tower.describe(PENULTIMATE)
    key = FeatureKey(preprocessing.identity(), tower.fingerprint, precision, words)
    cache = FeatureCache(tmp_path / "cache", key)
    extraction = Extraction(cache, tower, PENULTIMATE, preprocessing)
    return extraction.fill(images, batch_size=4, progress=False)


def encode_one_by_one(tower: TinyTower, images: list[Path]) -> Tensor:
    with torch.no_grad():
        rows = [tower.eval().encode(load_pixels(path, PREPROCESSING)[None]) for path in images]
    return torch.cat(rows)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_cached_features_are_those_of_the_tower(tmp_path, images, precision):
    assert extract(TinyTower(), tmp_path, images, precision=precision).num_encoded == 11
    found = read(tmp_path, images, precision)
    # fp32 sums may differ in order between batch sizes, before the cast.
    torch.testing.assert_close(found, encode_one_by_one(TinyTower(), images).to(found.dtype))


def test_features_do_not_depend_on_what_was_encoded_together(tmp_path, images):
    extract(TinyTower(), tmp_path, images)
    extract(TinyTower(), tmp_path / "other", images[7:8])
    extract(TinyTower(), tmp_path / "other", images[::-1])
    assert torch.equal(read(tmp_path, images), read(tmp_path / "other", images))


def test_tower_always_sees_whole_batches(tmp_path, images):
    tower = TinyTower()
    extract(tower, tmp_path, images)
    assert tower.batch_sizes == [4, 4, 4]


def test_second_call_leaves_the_tower_alone(tmp_path, images):
    extract(TinyTower(), tmp_path, images)
    tower = TinyTower()
    assert extract(tower, tmp_path, images).num_encoded == 0
    assert tower.batch_sizes == []


def test_training_mode_and_gradients_are_as_before(tmp_path, images):
    tower = TinyTower().train()
    tower.dropout.eval()
    extract(tower, tmp_path, images)
    assert tower.training
    assert not tower.dropout.training
    assert torch.is_grad_enabled()


def test_pixels_are_brought_to_the_precision_of_the_weights(tmp_path, images):
    extract(TinyTower(dtype=torch.bfloat16), tmp_path, images)
    # 48 products of bf16 numbers of about 1: 8 bits of mantissa each
    torch.testing.assert_close(
        read(tmp_path, images), encode_one_by_one(TinyTower(), images), rtol=0.05, atol=0.2
    )


def test_other_preprocessing_is_encoded_anew(tmp_path, images):
    extract(TinyTower(), tmp_path, images)
    other = dataclasses.replace(PREPROCESSING, mean=(0.4, 0.5, 0.5))
    assert extract(TinyTower(), tmp_path, images, preprocessing=other).num_encoded == 11


def test_all_images_that_do_not_decode_are_listed(tmp_path, images):
    images[2].write_bytes(b"no picture")
    images[10].write_bytes(images[10].read_bytes()[:40])
    with pytest.raises(DataError, match=rf"(?s)2 found.*{images[2]}.*{images[10]}"):
        extract(TinyTower(), tmp_path, images)


def test_after_a_damaged_image_is_replaced_the_rest_is_kept(tmp_path, images):
    good = images[10].read_bytes()
    images[10].write_bytes(b"no picture")
    with pytest.raises(DataError):
        extract(TinyTower(), tmp_path, images)
    images[10].write_bytes(good)
    assert extract(TinyTower(), tmp_path, images).num_encoded == 11
    assert len(read(tmp_path, images)) == 11
