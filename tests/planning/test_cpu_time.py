"""Protects the warning of a training without a GPU: that it comes, and names a time."""

from dataclasses import replace
from pathlib import Path

import pytest

from ademvl.config.run import BackboneSettings, RunSettings
from ademvl.config.study import load_study
from ademvl.planning.cpu_time import describe, training_seconds, warn_of_cpu
from ademvl.tasks.layout import make_dataset
from tests.conftest import PROJECT_ROOT

pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    study = load_study(PROJECT_ROOT / "workflow/studies/smoke.yaml")
    folder = tmp_path_factory.mktemp("data") / "set"
    make_dataset(folder / "manifest.json", study.settings.datasets["easy_vqa_smoke"])
    return replace(study.runs[0], data_dir=str(folder / "scienceqa"))


def test_time_grows_with_the_epochs_and_falls_with_the_rate(run: RunSettings) -> None:
    twice = replace(run, optimization=replace(run.optimization, epochs=2.0))
    assert training_seconds(twice, 1e9) == pytest.approx(2 * training_seconds(run, 1e9), rel=0.01)
    assert training_seconds(run, 2e9) == pytest.approx(training_seconds(run, 1e9) / 2)


def test_run_that_wants_a_gpu_is_warned_with_a_time_and_a_mini_run_is_not(
    run: RunSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    warn_of_cpu(run)
    assert not caplog.records
    mini = PROJECT_ROOT / "ademvl/backbones/weights/mini_llm"
    warn_of_cpu(replace(run, backbones=replace(run.backbones, llm=str(mini))))
    assert "training on the processor, expected to take" in caplog.text
    assert "unknown" not in caplog.text


def test_run_of_unknown_sizes_is_warned_unless_its_data_is_missing(
    run: RunSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = replace(run, backbones=BackboneSettings(llm=str(tmp_path)))
    warn_of_cpu(replace(unknown, data_dir=str(tmp_path / "set/scienceqa")))
    assert not caplog.records
    warn_of_cpu(unknown)
    assert "on the processor, for how long is not known" in caplog.text


def test_time_is_told_in_the_unit_that_suits_it() -> None:
    assert [describe(s) for s in (0.5, 90, 7200, 864_000)] == [
        "0.5 seconds",
        "1.5 minutes",
        "2.0 hours",
        "10.0 days",
    ]
