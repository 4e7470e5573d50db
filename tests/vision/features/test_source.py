"""Protects visual inputs: one entry for each image, in row order, in either mode."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ademvl.config.run import FeatureSettings
from ademvl.data.images import load_pixels, preprocessing_for
from ademvl.errors import SettingsError
from ademvl.model.build import build_model
from ademvl.vision.features.source import (
    AugmentedPixels,
    NoImages,
    OnlinePixels,
    open_visual_source,
)
from ademvl.vision.features.whole import build_feature_cache, run_images
from ademvl.vision.tower import load_tower
from tests.tiny import make_captions, make_run, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("base")


def _batch(*names):
    images = tuple(name and Path(name) for name in names)
    return SimpleNamespace(item_ids=tuple(map(str, range(len(names)))), images=images)


def _source(max_bytes):
    loaded = []

    def load(path):
        loaded.append(path.name)
        return torch.tensor([int(path.name)], dtype=torch.uint8)

    return OnlinePixels(load, lambda levels: levels / 2, max_bytes=max_bytes), loaded


def test_pixels_come_in_row_order_without_rows_that_have_none():
    source, _ = _source(0)
    assert source.for_batch(_batch("3", None, "1", "3")).tolist() == [[1.5], [0.5], [1.5]]
    assert source.for_batch(_batch(None, None)) is None


def test_pixels_are_kept_up_to_the_limit():
    source, loaded = _source(2)
    for _ in range(2):
        source.for_batch(_batch("1", "2", "3"))
    assert sorted(loaded) == ["1", "2", "3", "3"]


def _open(run, images, *, tower=None, training=False):
    device = torch.device("cpu")
    return open_visual_source(
        run, images, tower=tower, device=device, progress=False, training=training
    )


def test_kept_images_are_a_quarter_of_their_pixels_and_give_the_same(folder):
    run = make_run(folder, features=FeatureSettings(mode="online"))
    images = run_images(run)[:3]
    source = _open(run, images, tower=load_tower(run.backbones))
    batch = _batch(*images)
    first, again = source.for_batch(batch), source.for_batch(batch)
    preprocessing = preprocessing_for("scienceqa", 8)
    expected = torch.stack([load_pixels(path, preprocessing) for path in images])
    assert torch.equal(first, expected)
    assert torch.equal(again, expected)
    assert 4 * sum(kept.nbytes for kept in source._kept.values()) == expected.nbytes


def _augmented(*items, epoch=0, seed=0):
    """Pixels of items, each a number drawn from the generator that its image gets."""
    source = AugmentedPixels(
        lambda path, generator: float(path.name) + torch.rand(1, generator=generator), seed=seed
    )
    images = tuple(Path(item[0]) for item in items)  # the first letter of an id is its image
    return source.for_batch(SimpleNamespace(item_ids=items, images=images), epoch=epoch)


def test_augmented_pixels_depend_on_seed_epoch_and_item_alone():
    first, second = _augmented("1a", "1b").squeeze(1).tolist()
    assert first != second
    assert _augmented("1b", "2a", "1a").squeeze(1).tolist()[::2] == [second, first]
    assert _augmented("1a", epoch=1).item() != first
    assert _augmented("1a", seed=1).item() != first


@pytest.mark.parametrize(
    ("mode", "augmentation", "training", "kind"),
    [
        ("online", "reference", True, "AugmentedPixels"),
        ("online", "reference", False, "OnlinePixels"),
        ("online", "none", True, "OnlinePixels"),
    ],
)
def test_images_are_changed_in_caption_training_only(
    folder, tmp_path, mode, augmentation, training, kind
):
    captions = make_captions(tmp_path)
    features = FeatureSettings(mode=mode, augmentation=augmentation)
    run = make_run(folder, task="coco_caption", data_dir=str(captions), features=features)
    images = sorted(captions.glob("images/*.png"))
    source = _open(run, images, tower=load_tower(run.backbones), training=training)
    assert type(source).__name__ == kind


def test_augmented_training_sees_new_pixels_in_every_epoch(folder, tmp_path):
    captions = make_captions(tmp_path)
    features = FeatureSettings(mode="online")
    run = make_run(folder, task="coco_caption", data_dir=str(captions), features=features)
    images = sorted(captions.glob("images/*.png"))
    source = _open(run, images, tower=load_tower(run.backbones), training=True)
    batch = SimpleNamespace(images=tuple(images), item_ids=tuple(map(str, range(len(images)))))
    epochs = [source.for_batch(batch, epoch=epoch) for epoch in (0, 1, 0)]
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert epochs[0].shape == (len(images), 3, 8, 8)


def test_no_images_need_no_tower():
    run = SimpleNamespace(features=FeatureSettings(mode="cached"))
    source = open_visual_source(run, [], tower=None, device=torch.device("cpu"), progress=False)
    assert isinstance(source, NoImages)
    assert source.for_batch(_batch(None)) is None


def test_cached_features_equal_those_of_the_online_tower(folder):
    features = FeatureSettings(mode="cached", precision="fp32", cache_dir=str(folder / "features"))
    cached_run = make_run(folder, features=features)
    online_run = make_run(folder, features=FeatureSettings(mode="online"))
    images = run_images(cached_run)[:3]
    batch = _batch(*images)
    cached = _open(cached_run, images)
    online_model = build_model(online_run).eval()
    online = _open(online_run, images, tower=online_model.tower)
    with torch.inference_mode():
        # New adapters add nothing: their second matrix is zero.
        encoded = online_model.tower.encode(online.for_batch(batch))
    torch.testing.assert_close(cached.for_batch(batch), encoded, atol=1e-5, rtol=0)


def test_report_of_features_does_not_depend_on_what_was_there(folder, tmp_path):
    features = FeatureSettings(mode="cached", cache_dir=str(tmp_path / "features"))
    run_dir = write_run(tmp_path / "run", make_run(folder, features=features))
    reports = [tmp_path / name for name in ("first.json", "second.json")]
    for report in reports:
        build_feature_cache(run_dir, report, progress=False)
    assert reports[0].read_bytes() == reports[1].read_bytes()
    content = json.loads(reports[0].read_bytes())
    assert content["num_images"] == len(run_images(make_run(folder)))


def test_online_run_has_no_features_to_build(folder, tmp_path):
    run_dir = write_run(tmp_path, make_run(folder, features=FeatureSettings(mode="online")))
    with pytest.raises(SettingsError, match="online"):
        build_feature_cache(run_dir, tmp_path / "report.json", progress=False)
