"""Protects what studies share: two workflows at once make data and features once, and whole."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.config.dataset import DatasetSettings
from ademvl.tasks.layout import make_dataset
from tests.conftest import PROJECT_ROOT
from tests.waiting import wait_until
from tests.workflow.killing import snakemake

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")

SMOKE = yaml.safe_load((PROJECT_ROOT / "workflow/studies/smoke.yaml").read_text("utf-8"))
SETTINGS = DatasetSettings(
    train_questions=40,
    val_questions=20,
    test_questions=40,
    caption_train_images=16,
    caption_val_images=20,
    caption_test_images=8,
)


def write_study(folder: Path, name: str, shared: Path) -> Path:
    """Write a study of one run with cached features, in a folder of its own.

    It has enough images to be encoded for some seconds, so that kills fall into that, too.
    """
    (folder / name).mkdir(parents=True)
    study: dict[str, Any] = SMOKE | {"study": name, "shared_dir": str(shared)}
    [dataset] = SMOKE["datasets"]
    study["datasets"] = {dataset: SMOKE["datasets"][dataset] | {"train_questions": 6000}}
    study["runs"] = {"adem": SMOKE["runs"]["adem"]}
    path = folder / name / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def start(study: Path) -> subprocess.Popen[str]:
    return snakemake(study.parent, "features", configfile=study)


def kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed


def shards(shared: Path) -> list[Path]:
    return sorted(shared.glob("features/*/shards/*"))


def claims(shared: Path) -> list[Path]:
    """Claims of jobs that encode images, or were killed while they did."""
    return list(shared.glob("features/*/claims/*.claim"))


def stored_images(shared: Path) -> list[str]:
    """Images of all shards, after comparing each shard with its checksum."""
    from safetensors import safe_open

    from ademvl.vision.features.shards import check_bytes

    images: list[str] = []
    for path in shards(shared):
        check_bytes(path)
        with safe_open(path, framework="numpy") as shard:
            images += shard.metadata()["images"].split()
    return images


def check_shared(shared: Path, num_images: int) -> None:
    """Every image is stored once, no shard is damaged, nothing is left of killed jobs."""
    images = stored_images(shared)
    assert len(images) == len(set(images)) == num_images
    assert {path.suffix for path in shards(shared)} == {".safetensors"}
    assert not claims(shared)
    assert not list(shared.glob("features/*/quarantine/*"))
    assert not list(shared.glob("data/.*.unfinished"))


def num_images_of(study: Path) -> int:
    [path] = study.parent.glob("results/*/features/*.json")
    report = json.loads(path.read_text(encoding="utf-8"))
    return int(report["num_unique_images"])


def test_data_that_another_workflow_has_made_meanwhile_is_kept(tmp_path: Path) -> None:
    started = tmp_path / "started"
    started.touch()
    manifest = tmp_path / "data/set/manifest.json"
    make_dataset(manifest, SETTINGS, started=started)
    before = manifest.stat()
    make_dataset(manifest, SETTINGS, started=started)
    assert manifest.stat().st_ino == before.st_ino
    started.touch()
    make_dataset(manifest, SETTINGS, started=started)
    assert manifest.stat().st_ino != before.st_ino


def test_data_with_other_settings_is_replaced(tmp_path: Path) -> None:
    started = tmp_path / "started"
    started.touch()
    manifest = tmp_path / "data/set/manifest.json"
    make_dataset(manifest, SETTINGS, started=started)
    before = manifest.read_bytes()
    from dataclasses import replace

    make_dataset(manifest, replace(SETTINGS, seed=1), started=started)
    assert manifest.read_bytes() != before


@pytest.mark.slow
def test_two_workflows_at_once_encode_each_image_once(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    studies = [write_study(tmp_path, name, shared) for name in ("one", "two")]
    printed = [finish(process) for process in [start(study) for study in studies]]
    assert all("100%" in text for text in printed)
    check_shared(shared, num_images_of(studies[0]))
    logs = [path.read_text() for path in tmp_path.glob("*/results/*/logs/dataset/*.log")]
    assert sum("made by another workflow meanwhile" in log for log in logs) == len(logs) - 1


@pytest.mark.slow
def test_random_kills_of_two_workflows_leave_nothing_damaged_or_doubled(tmp_path: Path) -> None:
    generator = random.Random(0)
    num_interrupted = 0
    for repetition in range(20):
        folder = tmp_path / str(repetition)
        shared = folder / "shared"
        studies = [write_study(folder, name, shared) for name in ("one", "two")]
        processes = [start(study) for study in studies]
        if repetition % 2:  # falls into encoding, however long what comes before takes
            wait_until(lambda shared=shared: claims(shared), "images are encoded")
        else:
            time.sleep(generator.uniform(3.0, 20.0))
        kill(generator.choice(processes))
        num_interrupted += bool(claims(shared))
        time.sleep(generator.uniform(0.0, 5.0))
        kill(generator.choice(processes))
        for process in processes:
            if process.poll() is None:
                finish(process)
        for process in [start(study) for study in studies]:
            finish(process)
        check_shared(shared, num_images_of(studies[0]))
    assert num_interrupted  # else no kill has fallen into encoding
