"""Protects that everything that would stop a study later is told at once, before any job."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.config.study import Study, load_study
from ademvl.errors import MAX_LISTED
from ademvl.runs.chosen_rate import (
    Candidate,
    RateChoice,
    candidate_dir,
    choice_file,
    write_choice,
)
from ademvl.storage.files import write_json
from ademvl.workflow import machine_checks
from ademvl.workflow.sources import StudySources
from ademvl.workflow.study_checks import problems_at_start, study_problems
from ademvl.workflow.work import pending_work
from tests.conftest import PROJECT_ROOT
from tests.workflow.killing import SMOKE, snakemake

PAPER = "workflow/studies/paper-7b.yaml"
WRONG: dict[str, Any] = {
    "study": "wrong",
    "include": [PAPER],
    "gpus": [0],
    "datasets": {"scienceqa": {"existing": "/data/nope"}},
    "defaults": {"backbones": {"tower": "ViT-B-32-quickgel"}},
    "runs": {"scienceqa_7b": {"backbones": {"llm": "/models/qwen"}}},
}
SAID = (
    "datasets.scienceqa: /data/nope: no such folder",
    "runs.scienceqa_7b.backbones.llm: /models/qwen is neither a file nor a folder",
    "no model 'ViT-B-32-quickgel'; did you mean ViT-B-32-quickgelu?",
    "accepted_licenses: [llama]",
    "gpus: [0], but jobs can use no GPU of this machine",
)


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def write_study(folder: Path, raw: dict[str, Any]) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**raw, "shared_dir": "shared"}), encoding="utf-8")
    return path


def ademvl(folder: Path, *arguments: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-m", "ademvl", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def smoke(folder: Path, **changes: Any) -> Study:
    raw = yaml.safe_load(SMOKE.read_text("utf-8"))
    places = {"shared_dir": str(folder / "shared"), "results_dir": str(folder / "results")}
    return load_study({**raw, **places, **changes})


def test_run_tells_all_that_is_wrong_in_one_list_with_exit_code_2(tmp_path: Path) -> None:
    write_study(tmp_path, WRONG)
    code, printed = ademvl(tmp_path, "run", "study.yaml")
    assert code == 2
    assert "Traceback" not in printed
    found = len(SAID) + printed.count("disk at ")  # a small machine lacks the room, too
    assert printed.startswith(f"ademvl run: wrong: cannot be started ({found} found):")
    for text in SAID:
        assert text in printed
    assert not (tmp_path / "shared").exists()


def test_start_of_snakemake_does_the_same_checks_and_a_dry_run_tells(tmp_path: Path) -> None:
    study = write_study(tmp_path, WRONG)
    process = snakemake(tmp_path, "--dry-run", configfile=study)
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert all(text in printed for text in SAID)
    process = snakemake(tmp_path, configfile=study)
    printed, _ = process.communicate()
    assert process.returncode != 0
    assert "Traceback" not in printed
    assert all(text in printed for text in SAID)
    assert not (tmp_path / "shared").exists()


def test_bad_yaml_comes_alone_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("study: x\nruns: [\n", encoding="utf-8")
    code, printed = ademvl(tmp_path, "run", "study.yaml")
    assert code == 2
    assert "line 3" in printed
    assert "cannot be started" not in printed


def test_shipped_studies_that_need_nothing_can_start(tmp_path: Path) -> None:
    study = smoke(tmp_path)
    assert problems_at_start(study, StudySources(study)) == []


def test_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    study = smoke(tmp_path)
    work = pending_work(study, [])
    assert study_problems(study, work) == []
    (found,) = study_problems(study, work, free=lambda folder: 1_000_000)
    assert found.startswith("disk at /")
    assert "1 MB are free" in found


def test_damaged_adapter_is_told_before_it_is_evaluated(tmp_path: Path) -> None:
    study = smoke(tmp_path)
    adapter = study.run_dir(study.runs[0]) / "adapter"
    write_json(adapter / "adapter.json", {"sha256": "0" * 64})
    (adapter / "adapter.safetensors").write_bytes(b"cut off")
    (found,) = problems_at_start(study, StudySources(study))
    assert "adapter.safetensors: damaged" in found


def test_a_training_that_the_processor_cannot_do_is_refused(tmp_path: Path) -> None:
    study = load_study(PROJECT_ROOT / PAPER)
    found = problems_at_start(study, StudySources(study))
    assert len(found) < MAX_LISTED
    (told,) = [text for text in found if text.startswith("no GPU is usable here")]
    assert all(f"{name} (" in told for name in ("scienceqa_7b", "captions_7b", "instruction_7b"))


def test_frozen_models_without_a_formula_are_not_measured_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_checks, "formula_of", lambda *_, **__: None)
    monkeypatch.setattr(machine_checks, "RunMemory", None)
    study = load_study(PROJECT_ROOT / PAPER)
    found = problems_at_start(study, StudySources(study))
    assert not any(text.startswith("no GPU is usable here") for text in found)


def test_finished_work_is_not_looked_at(tmp_path: Path) -> None:
    study = load_study({**WRONG, "results_dir": str(tmp_path), "shared_dir": str(tmp_path / "s")})
    for run in study.runs:
        folder = study.run_dir(run)
        write_json(folder / "adapter" / "adapter.json", {})
        write_json(folder / "scores" / f"{run.evaluation_task}.json", {})
    for name in study.settings.datasets:
        write_json(tmp_path / "s/data" / name / "manifest.json", {})
    assert study_problems(study, pending_work(study, [])) == []


def test_no_cores_is_snakemakes_own_message_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT_ROOT / "Snakefile")]
    command += ["--configfile", str(SMOKE)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert run.returncode != 0
    assert "--cores" in run.stderr
    assert "Traceback" not in run.stderr


def test_targets_of_run_stand_behind_the_study_and_reach_snakemake(tmp_path: Path) -> None:
    code, printed = ademvl(tmp_path, "run", "--dry-run", "smoke", "data")
    assert code == 0, printed
    assert "rule dataset:" in printed
    assert "rule train_run:" not in printed


def test_status_of_a_study_before_and_after_a_failure(tmp_path: Path) -> None:
    study = smoke(tmp_path)
    path = write_study(tmp_path, yaml.safe_load(SMOKE.read_text("utf-8")))
    code, printed = ademvl(tmp_path, "status", "study.yaml")
    assert (code, printed.splitlines()[0]) == (
        0,
        "smoke: 0 of 4 runs and seeds finished; no workflow is at work on it",
    )
    assert "adem         seed 0  not run" in printed
    note = {"step": "train", "message": "the disk is full", "failed": "2026-01-01"}
    write_json(study.run_dir(study.runs[0]) / "failure.json", note)
    assert "failed in train: the disk is full" in ademvl(tmp_path, "status", str(path))[1]


def test_status_tells_how_far_the_choice_of_a_rate_is(tmp_path: Path) -> None:
    raw = yaml.safe_load(SMOKE.read_text("utf-8"))
    raw["runs"] = {"adem": {**raw["runs"]["adem"], "optimization": {"lr_grid": [0.01, 0.1]}}}
    study = load_study(write_study(tmp_path, raw))

    def rate_line() -> str:
        printed = ademvl(tmp_path, "status", "study.yaml")[1]
        return next(line for line in printed.splitlines() if "  rate  " in line)

    assert rate_line().endswith("not chosen yet")
    record = choice_file(tmp_path / study.results_dir, "adem")
    candidate_dir(record.with_suffix(""), 0.01).mkdir(parents=True)
    assert rate_line().endswith("rate 1 of 2 begun")
    found = (Candidate(base_lr=0.01, score=50.0, n=20), Candidate(base_lr=0.1, score=60.0, n=20))
    write_choice(record, RateChoice(run="adem", base_lr=0.1, candidates=found))
    assert rate_line().endswith("0.1, the best of 2 on val")
