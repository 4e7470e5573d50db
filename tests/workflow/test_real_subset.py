"""Protects the way of real data through the workflow: existing copies, verification, quarantine.

The images of the subset's train and val problems are missing, so training is on text alone and the
test images go through a random tower.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import TOWER, make_tower
from tests.workflow.killing import run_to_end, snakemake

# Makes the tiny tower known to open_clip in every process, without importing it where it is unused.
REGISTERING = """
import importlib.abc, importlib.machinery, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "open_clip":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            module.add_model_config({config!r})
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def study(tmp_path: Path, real_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    weights = make_tower(tmp_path / "tower")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    config = str(tmp_path / "tower" / f"{TOWER}.json")
    (hooks / "sitecustomize.py").write_text(REGISTERING.replace("{config!r}", repr(config)))
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{hooks}:{root}")
    return {
        "study": "subset",
        "scale": "mini",
        "datasets": {
            "scienceqa_subset": {
                "source": "scienceqa",
                "existing": str(real_dir / "scienceqa_subset"),
                "subset": True,
                "damaged": "leave_out",
            },
            "coco_photos": {
                "source": "coco_caption",
                "existing": str(real_dir / "coco_photos"),
                "subset": True,
                "caption_splits": "official",
            },
        },
        "defaults": {
            "dataset": "scienceqa_subset",
            "backbones": {"llm": "mini", "tower": TOWER, "tower_weights": str(weights)},
            "features": {"mode": "cached", "precision": "fp32"},
            "prompts": {"max_seq_len": 1536},
            "method": {"scales": [16, 4], "projection_width": 8},
            "optimization": {
                "epochs": 0.2,
                "warmup_epochs": 0.1,
                "effective_batch_size": 8,
                "per_device_batch_size": 8,
            },
        },
        "runs": {
            "questions": {},
            "captions": {
                "task": "coco_caption",
                "dataset": "coco_photos",
                "evaluation": {"split": "val"},
            },
        },
    }


def write(study: dict[str, Any], folder: Path) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_real_subset_goes_from_existing_copies_to_scores(
    study: dict[str, Any], tmp_path: Path
) -> None:
    run_to_end(tmp_path, "evaluate", configfile=write(study, tmp_path))

    data, results = tmp_path / "results/shared/data", tmp_path / "results/subset"
    report = read(data / "scienceqa_subset/verification.json")
    assert report["num_findings"] == {"missing_image": 190}
    assert len(read(data / "scienceqa_subset/scienceqa/quarantine.json")["train"]) == 150
    assert read(results / "runs/questions/seed0/provenance.json")["items"] == 400 - 150
    reports = [read(path) for path in results.glob("features/*.json")]
    assert sorted(report["num_images"] for report in reports) == [120, 167]
    assert read(results / "runs/questions/seed0/scores/scienceqa.json")["n"] == 361
    assert read(results / "runs/captions/seed0/scores/coco_caption.json")["n"] == 40


def test_missing_images_stop_by_default_and_the_report_stays(
    study: dict[str, Any], tmp_path: Path
) -> None:
    study["datasets"]["scienceqa_subset"]["damaged"] = "stop"
    process = snakemake(tmp_path, "data", configfile=write(study, tmp_path))
    printed, _ = process.communicate()
    assert process.returncode == 1, printed
    folder = tmp_path / "results/shared/data/scienceqa_subset"
    assert not (folder / "verified.json").exists()
    findings = read(folder / "verification.json")["findings"]
    assert {finding["level"] for finding in findings} == {"stops"}
    assert len(findings) == 190
    log = tmp_path / "results/subset/logs/verify_dataset/scienceqa_subset.log"
    assert "image of question 1 is missing" in log.read_text(encoding="utf-8")
