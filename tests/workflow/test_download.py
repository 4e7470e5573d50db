"""Protects the rules of downloads: offline, with files placed by hand, through Snakemake itself."""

from pathlib import Path
from typing import Any

import torch
import yaml

from ademvl.data.acquisition.records import read_marker
from tests.workflow.killing import run_to_end, snakemake

SOURCE = "adem_released_scienceqa"
MARKER = f"results/shared/downloads/{SOURCE}/complete.json"


def write_study(folder: Path, **keys: Any) -> Path:
    raw = {
        "study": "offline",
        "scale": "mini",
        "datasets": {"easy_vqa": {}},
        "downloads": {"offline": True, "extra_sources": [SOURCE]},
        "runs": {"run": {"dataset": "easy_vqa", "method": {"scales": [64, 16]}}},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw | keys), encoding="utf-8")
    return path


def test_file_placed_by_hand_is_verified_by_its_rule(tmp_path: Path) -> None:
    folder = (tmp_path / MARKER).parent
    folder.mkdir(parents=True)
    torch.save({"model": {}}, folder / "checkpoint_7B_sqa.pth")
    study = write_study(tmp_path)
    run_to_end(tmp_path, MARKER, configfile=study)
    marker = read_marker(tmp_path / MARKER)
    assert marker is not None
    assert marker["bytes"] == (folder / "checkpoint_7B_sqa.pth").stat().st_size
    printed = run_to_end(tmp_path, "--dry-run", MARKER, configfile=study)
    assert "Nothing to be done" in printed


def test_missing_file_is_named_with_its_place_and_address(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    process = snakemake(tmp_path, "--show-failed-logs", MARKER, configfile=study)
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert f"results/shared/downloads/{SOURCE}/checkpoint_7B_sqa.pth: size unknown" in printed
    assert "https://github.com/Hao840/ADEM-VL/releases/download" in printed


def test_wrong_name_of_a_source_ends_before_any_job(tmp_path: Path) -> None:
    study = write_study(tmp_path, downloads={"extra_sources": ["adem_released"]})
    process = snakemake(tmp_path, MARKER, configfile=study)
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "downloads.extra_sources: 'adem_released' is no source" in printed
    assert "Traceback" not in printed
