"""Protects full caches of features: opened without tower and torch, never for another tower."""

import dataclasses
import json
import shutil
import subprocess
import sys

import pytest
import torch

from ademvl.config.run import FeatureSettings
from ademvl.vision.features import image_digests
from ademvl.vision.features.extraction import ensure_features
from ademvl.vision.features.known_keys import KEYS_FOLDER, known_key
from ademvl.vision.features.whole import build_feature_cache, open_features, run_images
from tests import tiny

WITHOUT_TORCH = """
import sys
from ademvl.cli import main

code = main(sys.argv[1:])
sys.exit(code or int("torch" in sys.modules))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world")
    tiny.make_run(path)
    return path


@pytest.fixture
def run(folder, tmp_path):
    """A run with an own cache that is full."""
    features = FeatureSettings(mode="cached", cache_dir=str(tmp_path / "features"))
    run = tiny.make_run(folder, features=features)
    ensure_features(run, run_images(run), progress=False).close()
    return run


@pytest.fixture
def loads(monkeypatch):
    """Count how often a tower is loaded."""
    from ademvl.vision import tower

    real, calls = tower.load_tower, []
    monkeypatch.setattr(
        tower, "load_tower", lambda backbones: (calls.append(1), real(backbones))[1]
    )
    return calls


def test_full_cache_is_read_without_its_tower(run, loads):
    images = run_images(run)
    with open_features(run, images, progress=False) as reader:
        found = reader.read(images)
    assert not loads
    with ensure_features(run, images, progress=False) as reader:
        assert torch.equal(found, reader.read(images))
    assert loads


def test_report_of_a_full_cache_needs_no_torch(run, tmp_path):
    run_dir = tiny.write_run(tmp_path / "run", run)
    expected, output = tmp_path / "expected.json", tmp_path / "output.json"
    build_feature_cache(run_dir, expected, progress=False)
    command = [sys.executable, "-c", WITHOUT_TORCH, "features", str(run_dir), f"--output={output}"]
    subprocess.run([*command, "--gpus=0", "--threads=1"], check=True, timeout=120)
    assert output.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("what", ["missing", "damaged"])
def test_images_that_are_not_whole_are_encoded(run, tmp_path, loads, what):
    images = run_images(run)
    with open_features(run, images, progress=False) as reader:
        expected = reader.read(images)
    (shard,) = tmp_path.glob("features/*/shards/*.safetensors")
    if what == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with open_features(run, images, progress=False) as reader:
        assert torch.equal(reader.read(images), expected)
    assert loads


def test_images_are_hashed_once_and_again_where_they_were_encoded(run, tmp_path, monkeypatch):
    images = run_images(run)
    open_features(run, images, progress=False).close()
    (shard,) = tmp_path.glob("features/*/shards/*.safetensors")
    shard.unlink()
    read = []
    read_image_bytes = image_digests.read_image_bytes
    monkeypatch.setattr(
        image_digests, "read_image_bytes", lambda path: read.append(path) or read_image_bytes(path)
    )
    open_features(run, images, progress=False).close()
    assert sorted(read) == sorted(2 * images)  # to know them, and that they have not changed


def test_other_weights_settings_and_edited_records_know_no_key(run, tmp_path):
    assert known_key(run) is not None
    weights = shutil.copy(run.backbones.tower_weights, tmp_path / "tower.pt")
    moved = dataclasses.replace(run.backbones, tower_weights=str(weights))
    assert known_key(dataclasses.replace(run, backbones=moved)) == known_key(run)
    changed = torch.load(weights)
    changed["logit_scale"] += 1
    torch.save(changed, weights)
    tagged = dataclasses.replace(run.backbones, tower_weights="openai")
    others = [
        dataclasses.replace(run, backbones=moved),
        dataclasses.replace(run, backbones=tagged),
        dataclasses.replace(run, task="coco_caption"),
        dataclasses.replace(run, features=dataclasses.replace(run.features, precision="bf16")),
    ]
    assert [known_key(other) for other in others] == [None] * len(others)
    (record,) = (tmp_path / "features" / KEYS_FOLDER).iterdir()
    content = json.loads(record.read_text())
    content["key"]["tower"] = "another"
    record.write_text(json.dumps(content))
    assert known_key(run) is None
