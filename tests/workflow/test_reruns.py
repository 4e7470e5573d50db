"""Protects finished trainings: only what they depend on makes the workflow train again."""

import os
import re
import signal
from pathlib import Path

import pytest
import yaml

from tests.waiting import wait_until
from tests.workflow.killing import SMOKE, run_to_end, snakemake

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")

RUN_DIR = Path("results/smoke/runs/text_only/seed0")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write the smoke study with its quickest run alone."""
    raw = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
    raw["runs"] = {"text_only": raw["runs"]["text_only"]}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def planned(study: Path, **defaults: dict[str, object]) -> set[str]:
    """Rules that a dry run of evaluation plans after settings of all runs were changed."""
    raw = yaml.safe_load(study.read_text(encoding="utf-8"))
    for section, values in defaults.items():
        raw["defaults"][section] = raw["defaults"].get(section, {}) | values
    changed = study.with_name("changed.yaml")
    changed.write_text(yaml.safe_dump(raw), encoding="utf-8")
    printed = run_to_end(study.parent, "-n", "--", "evaluate", configfile=changed)
    return set(re.findall(r"^(?:local)?rule (\w+):", printed, flags=re.MULTILINE))


@pytest.mark.slow
def test_only_settings_that_matter_train_or_evaluate_again(tmp_path: Path, study: Path) -> None:
    run_to_end(tmp_path, "evaluate", configfile=study)
    assert planned(study) == set()
    idle = {"evaluation": {"batch_size": 3}, "optimization": {"per_device_batch_size": 1}}
    assert planned(study, **idle) == {"run_settings"}
    asked = planned(study, evaluation={"answer_by": "likelihood"})
    assert asked == {"run_settings", "relevant_settings", "evaluate_run", "evaluate"}
    trained = planned(study, optimization={"base_lr": 0.07})
    assert trained == {"run_settings", "relevant_settings", "train_run", "evaluate_run", "evaluate"}
    run_to_end(tmp_path, "evaluate", configfile=study.with_name("changed.yaml"))
    assert "0.07" in (tmp_path / RUN_DIR / "run.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_training_that_outlived_its_workflow_is_kept(tmp_path: Path, study: Path) -> None:
    adapter = tmp_path / RUN_DIR / "adapter/adapter.json"
    process = snakemake(tmp_path, "train", configfile=study)
    metrics = tmp_path / RUN_DIR / "metrics.csv"
    wait_until(metrics.exists, "the training has begun", processes=[process])
    os.kill(process.pid, signal.SIGKILL)
    wait_until(adapter.exists, "the training has ended by itself")
    process.communicate()
    trained = adapter.stat().st_ino
    run_to_end(tmp_path, "train", configfile=study)
    assert adapter.stat().st_ino == trained
    log = tmp_path / "results/smoke/logs/train_run/text_only_seed0.log"
    assert "already trained with these settings" in log.read_text(encoding="utf-8")
    assert "Nothing to be done" in run_to_end(tmp_path, "train", configfile=study)
