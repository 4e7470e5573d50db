"""Protects runs that evaluate another run's adapter: nothing is trained a second time."""

import dataclasses
import json
from pathlib import Path

import pytest

from ademvl.config.run import PromptSettings
from ademvl.errors import SettingsError
from ademvl.training.run import train_run
from tests import tiny

FILES = ("adapter/adapter.safetensors", "adapter/adapter.json", "metrics.csv")


@pytest.fixture
def dirs(tmp_path: Path) -> tuple[Path, Path]:
    """Directories of a run, and of one that evaluates its adapter; nothing is trained yet."""
    run = tiny.make_run(tmp_path, epochs=1.0)
    prompts = PromptSettings(max_seq_len=128, evaluation="reference")
    taking = dataclasses.replace(run, name="again", adapter="adem", prompts=prompts)
    runs = tmp_path / "results" / "runs"
    return (
        tiny.write_run(runs / "adem" / "seed0", run),
        tiny.write_run(runs / "again" / "seed0", taking),
    )


def test_adapter_is_taken_without_training(
    dirs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, taking = dirs
    assert train_run(trained, progress=False) == 0
    monkeypatch.setattr("ademvl.training.run.build_trainer", None)
    assert train_run(taking, progress=False) == 0
    for name in FILES:
        assert (taking / name).read_bytes() == (trained / name).read_bytes()
    ours, theirs = (
        json.loads((path / "provenance.json").read_text()) for path in (taking, trained)
    )
    assert ours == {**theirs, "adapter_of": "adem"}


def test_adapter_that_was_trained_anew_is_taken_anew(dirs: tuple[Path, Path]) -> None:
    trained, taking = dirs
    for epochs in (1.0, 2.0):
        for run_dir, name in zip(dirs, ("adem", "again"), strict=True):
            run = tiny.make_run(trained.parents[3], epochs=epochs)
            adapter = "trained" if name == "adem" else "adem"
            tiny.write_run(run_dir, dataclasses.replace(run, name=name, adapter=adapter))
            assert train_run(run_dir, progress=False) == 0
        assert (taking / FILES[0]).read_bytes() == (trained / FILES[0]).read_bytes()


def test_unfinished_training_is_said(dirs: tuple[Path, Path]) -> None:
    trained, taking = dirs
    with pytest.raises(SettingsError, match=f"first run `ademvl train {trained}`"):
        train_run(taking, progress=False)
    assert not (taking / "adapter").exists()
