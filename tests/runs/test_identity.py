"""Protects what makes a training another one: its settings, data and weights, not its places."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import BackboneSettings, FeatureSettings, PromptSettings, RunSettings
from ademvl.errors import DataError
from ademvl.methods.adem.settings import AdemSettings
from ademvl.runs.identity import identity_sha256, training_identity


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    data, llm = tmp_path / "data", tmp_path / "llm"
    (data / "karpathy").mkdir(parents=True)
    llm.mkdir()
    (data / "problems.json").write_text("{}", encoding="utf-8")
    (data / "karpathy" / "train.json").write_text("[]", encoding="utf-8")
    (llm / "model.safetensors").write_bytes(b"weights")
    return RunSettings(
        study="study",
        name="name",
        seed=0,
        task="scienceqa",
        data_dir=str(data),
        backbones=BackboneSettings(llm=str(llm), tower="ViT-B-32", tower_weights="openai"),
    )


def _sha256(run: RunSettings) -> str:
    return identity_sha256(training_identity(run))


@pytest.mark.parametrize(
    "change",
    [
        {"study": "other"},
        {"name": "other"},
        {"optimization": OptimizationSettings(per_device_batch_size=8)},
        {"optimization": OptimizationSettings(state_interval_seconds=1.0)},
    ],
)
def test_places_and_run_time_matters_do_not_count(
    run: RunSettings, change: dict[str, object]
) -> None:
    assert _sha256(dataclasses.replace(run, **change)) == _sha256(run)


def test_weights_may_be_moved(run: RunSettings, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run.backbones.llm, moved)
    backbones = dataclasses.replace(run.backbones, llm=str(moved))
    assert _sha256(dataclasses.replace(run, backbones=backbones)) == _sha256(run)
    by_name = dataclasses.replace(run.backbones, tower="ViT-L-14")
    assert _sha256(dataclasses.replace(run, backbones=by_name)) != _sha256(run)


def test_augmentation_counts_where_images_are_augmented_only(run: RunSettings) -> None:
    def settings(task: str, mode: str, augmentation: str) -> str:
        features = FeatureSettings(mode=mode, augmentation=augmentation)
        return _sha256(dataclasses.replace(run, task=task, features=features))

    for task, mode in (("scienceqa", "online"), ("coco_caption", "cached")):
        assert settings(task, mode, "none") == settings(task, mode, "reference")
    assert settings("coco_caption", "online", "none") != settings(
        "coco_caption", "online", "reference"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"images": "withheld"},
        {"optimization": OptimizationSettings(base_lr=0.1)},
        {"backbones": BackboneSettings(llm="other/llm", tower="ViT-B-32", tower_weights="openai")},
    ],
)
def test_settings_count(run: RunSettings, change: dict[str, object]) -> None:
    assert _sha256(dataclasses.replace(run, **change)) != _sha256(run)


@pytest.mark.parametrize(
    "path", ["data/problems.json", "data/karpathy/train.json", "llm/model.safetensors"]
)
def test_content_of_data_and_weights_counts(run: RunSettings, tmp_path: Path, path: str) -> None:
    before = _sha256(run)
    (tmp_path / path).write_text('{"changed": 1}', encoding="utf-8")
    assert _sha256(run) != before


def test_identity_is_plain_json(run: RunSettings) -> None:
    identity = training_identity(run)
    assert json.loads(json.dumps(identity)) == identity


def test_missing_data_set_is_an_error(run: RunSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set there"):
        training_identity(dataclasses.replace(run, data_dir=str(tmp_path / "nothing")))


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({"evaluation": "reference"}, False),
        ({"overflow": "cut_end"}, False),
        ({"evaluation_window": 64}, False),
        ({"caption_cue": "as_trained"}, False),
        ({"label_mask": "exact"}, True),
        ({"caption_answer": "plain"}, True),
        ({"image_prefix": "always"}, True),
    ],
)
def test_prompts_of_evaluation_do_not_count(
    run: RunSettings, change: dict[str, object], counts: bool
) -> None:
    changed = dataclasses.replace(run, prompts=PromptSettings(**change))
    assert (_sha256(changed) != _sha256(run)) == counts


def test_settings_that_came_later_count_where_they_are_used_only(run: RunSettings) -> None:
    identity = training_identity(run)
    settings = identity["settings"]
    assert "drop_by" not in settings["method"]
    assert "normalization" not in settings["features"]
    assert "imageless_steps" not in settings["optimization"]
    for part in (
        {"method": AdemSettings(drop_by="magnitude")},
        {"features": FeatureSettings(normalization="clip")},
    ):
        assert _sha256(dataclasses.replace(run, **part)) != _sha256(run)
