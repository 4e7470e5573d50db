"""Protects shared files: what was made with other settings elsewhere is refused before any job."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.config.study import load_study
from ademvl.data.acquisition.plan import plan_sources
from ademvl.errors import SettingsError
from ademvl.storage.files import write_json
from ademvl.workflow.start_checks import check_start
from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import SMOKE, run_to_end, snakemake

PAPER = PROJECT_ROOT / "workflow/studies/paper-7b.yaml"


def refused(folder: Path, *arguments: str, configfile: Path) -> str:
    process = snakemake(folder, *arguments, configfile=configfile)
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in printed
    assert "rule " not in printed.partition("SettingsError")[2]
    return printed


def write_study(folder: Path, shared: Path, **dataset: Any) -> Path:
    raw = yaml.safe_load(SMOKE.read_text(encoding="utf-8")) | {"shared_dir": str(shared)}
    raw["datasets"]["easy_vqa_smoke"] |= dataset
    folder.mkdir()
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_data_made_with_other_settings_elsewhere_is_refused_or_made_anew(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")
    shared = tmp_path / "shared"
    manifest = shared / "data/easy_vqa_smoke/manifest.json"
    one = write_study(tmp_path / "one", shared, train_questions=40)
    other = write_study(tmp_path / "other", shared, train_questions=60)
    run_to_end(one.parent, str(manifest), configfile=one)
    adapter = "results/smoke/runs/text_only/seed0/adapter/adapter.json"
    printed = refused(other.parent, adapter, configfile=other)
    assert f"{manifest}: train_questions is 40, here 60" in printed
    assert f"snakemake --forcerun {manifest}" in printed
    run_to_end(other.parent, str(manifest), "--forcerun", str(manifest), configfile=other)
    assert json.loads(manifest.read_text())["settings"]["train_questions"] == 60


def test_licence_is_refused_before_anything_is_fetched_but_dry_runs_go(tmp_path: Path) -> None:
    marker = "results/shared/downloads/llama_7b/complete.json"
    run_to_end(tmp_path, "--dry-run", marker, configfile=PAPER)
    assert "accepted_licenses: [llama]" in refused(tmp_path, marker, configfile=PAPER)


def test_weights_converted_or_fetched_from_elsewhere_are_refused(
    golden_dir: Path, tmp_path: Path
) -> None:
    folder = golden_dir / "models" / "weights" / "7B"
    raw = yaml.safe_load(PAPER.read_text("utf-8")) | {"shared_dir": str(tmp_path)}
    raw["backbones"]["llama_7b"] = {"existing": str(folder)}
    study = load_study(raw)
    marker = tmp_path / "converted/llama_7b/conversion.json"
    write_json(marker, {"source": {"folder": str(folder.resolve())}})
    check_start(study, plan_sources(study), read={str(marker)}, made=set())
    write_json(marker, {"source": {"folder": "/data/7B"}})
    with pytest.raises(SettingsError, match=r"conversion\.json: converted from /data/7B, here /"):
        check_start(study, plan_sources(study), read={str(marker)}, made=set())
    raw["backbones"]["llama_7b"] = {"repository": "lab/llama", "revision": "v2"}
    study = load_study(raw)
    fetched = str(tmp_path / "downloads/llama_7b/complete.json")
    with pytest.raises(SettingsError, match=r"complete\.json: not of lab/llama, revision v2"):
        check_start(study, plan_sources(study), read={fetched}, made=set())
