"""Protects the choice of a rate from end to end: val alone, resumed, divergence is no failure."""

import dataclasses
import json
from pathlib import Path

import pytest

from ademvl.config.optimization import CHOICE_SEED
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.errors import SettingsError
from ademvl.evaluation import rate_choice
from ademvl.evaluation.rate_choice import choose_rate_of
from ademvl.runs.chosen_rate import read_choice
from ademvl.training.guard import NotFiniteError
from tests.tiny import make_run, make_scienceqa

GRID = (0.001, 0.1)


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    make_scienceqa(tmp_path / "data" / "scienceqa")
    run = make_run(tmp_path, epochs=1.0)
    optimization = dataclasses.replace(run.optimization, lr_grid=GRID)
    return dataclasses.replace(run, optimization=optimization)


def test_each_rate_is_trained_once_and_scored_on_val(
    run: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, folder = tmp_path / "rates/run.json", tmp_path / "rates/run"
    assert choose_rate_of(run, folder, output, progress=False) == 0
    choice = read_choice(output)
    assert choice is not None
    assert choice.grid == GRID
    assert all(found.score is not None and found.seconds > 0 for found in choice.candidates)
    run_dirs = sorted(folder.glob(f"base_lr_*/seed{CHOICE_SEED}"))
    assert len(run_dirs) == len(GRID)
    for run_dir in run_dirs:
        settings = read_run(run_dir)
        assert settings.evaluation.split == "val"
        header = json.loads((run_dir / "predictions/scienceqa.header.json").read_text())
        assert header["settings"]["evaluation"]["split"] == "val"
    before = {path: path.read_bytes() for path in folder.rglob("adapter.*")}
    output.unlink()
    assert choose_rate_of(run, folder, output, progress=False) == 0  # as after a kill
    assert read_choice(output) == choice
    assert {path: path.read_bytes() for path in folder.rglob("adapter.*")} == before


def test_a_grid_that_may_grow_is_trained_beyond_its_best_end(
    run: RunSettings, tmp_path: Path
) -> None:
    optimization = dataclasses.replace(run.optimization, lr_grid_growth=1)
    run, output = dataclasses.replace(run, optimization=optimization), tmp_path / "rates/run.json"
    assert choose_rate_of(run, tmp_path / "rates/run", output, progress=False) == 0
    choice = read_choice(output)
    assert choice is not None
    assert choice.grid in ((0.00001, *GRID), (*GRID, 10.0))  # of two rates, the best is at an end
    assert all(found.seconds > 0 for found in choice.candidates)


def test_a_rate_that_diverges_is_told_and_not_chosen(
    run: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run_dir: Path, **options: object) -> int:
        if read_run(run_dir).optimization.base_lr == GRID[1]:
            raise NotFiniteError("steps 3 to 12: the loss is not finite\nitems")
        return trained(run_dir, **options)

    trained = rate_choice.train_run
    monkeypatch.setattr(rate_choice, "train_run", train)
    output = tmp_path / "rates/run.json"
    assert choose_rate_of(run, tmp_path / "rates/run", output, progress=False) == 0
    choice = read_choice(output)
    assert choice is not None
    assert choice.base_lr == GRID[0]
    assert choice.candidates[1].score is None
    assert choice.candidates[1].failure == "steps 3 to 12: the loss is not finite"


def test_a_run_without_grid_is_refused(run: RunSettings, tmp_path: Path) -> None:
    optimization = dataclasses.replace(run.optimization, lr_grid=())
    without = dataclasses.replace(run, optimization=optimization)
    with pytest.raises(SettingsError, match="lr_grid"):
        choose_rate_of(without, tmp_path / "rates", tmp_path / "out.json", progress=False)


def test_a_signal_ends_the_choice_without_a_record(
    run: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_choice, "train_run", lambda *_, **__: 75)
    output = tmp_path / "rates/run.json"
    assert choose_rate_of(run, tmp_path / "rates/run", output, progress=False) == 75
    assert not output.exists()
