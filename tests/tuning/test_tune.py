"""Protects the search of settings: val alone, halving; kills and budgets lose nothing."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the extra `tune` is missing")

from ademvl.config.optimization import CHOICE_SEED
from ademvl.config.settings_files import read_run
from ademvl.config.study import Study
from ademvl.errors import AdemvlError, ProcessLostError, SettingsError
from ademvl.evaluation.val_score import ValScore
from ademvl.storage.locks import lock_file
from ademvl.training.guard import NotFiniteError
from ademvl.training.interruption import EXIT_RETRY
from ademvl.tuning import tune as tune_module
from ademvl.tuning.search import Trial
from ademvl.tuning.table import best_of, search_text
from ademvl.tuning.tune import search_folder, tune
from tests.tuning.tiny_search import make_files, make_search


class Killed(BaseException):
    """What nothing handles, as a kill."""


class QuickRuns:
    """In place of trainings: each takes a minute and scores higher the nearer gamma is to 0.25.

    Attributes:
        trained: directories, in order.
        kill_in: where the call of a number, from 0, is killed after it has done its work.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[Path] = []
        self.kill_in: tuple[str, int] | None = None
        self._calls = {"train": 0, "evaluate_run": 0, "read_val_score": 0}
        for name in self._calls:
            monkeypatch.setattr(tune_module, name, getattr(self, name))

    def train(self, run_dir: Path, **_: object) -> int:
        if not (run_dir / "adapter.json").exists():
            self.trained.append(run_dir)
            (run_dir / "adapter.json").touch()
        self._end("train")
        return 0

    def evaluate_run(self, run_dir: Path, **_: object) -> None:
        self._end("evaluate_run")

    def read_val_score(self, run_dir: Path, _: object) -> ValScore:
        run = read_run(run_dir)
        gamma = run.method.gamma  # type: ignore[attr-defined]
        far = abs(gamma - 0.25) + abs(math.log10(run.optimization.base_lr))
        self._end("read_val_score")
        return ValScore(percent=90 - 10 * far + run.optimization.epochs, n=6, seconds=60.0)

    def _end(self, place: str) -> None:
        number = self._calls[place]
        self._calls[place] += 1
        if self.kill_in == (place, number):
            raise Killed


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and data, as all studies here read them."""
    folder = tmp_path_factory.mktemp("tiny")
    make_files(folder)
    return folder


@pytest.fixture
def folder(files: Path, tmp_path: Path) -> Path:
    for name in ("llm", "tower", "shared"):
        (tmp_path / name).symlink_to(files / name)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> QuickRuns:
    return QuickRuns(monkeypatch)


def lengths(study: Study, trials: tuple[Trial, ...]) -> list[float]:
    run_dirs = [path.parent for path in search_folder(study).rglob("run.yaml")]
    assert len(run_dirs) == sum(trial.rungs for trial in trials)
    return [read_run(run_dir).optimization.epochs for run_dir in run_dirs]


def test_trials_are_runs_of_the_study_asked_the_val_split(folder: Path) -> None:
    study = make_search(folder, trials=2)
    found = tune(study, threads=1)
    assert (found.exit_code, found.is_used_up, len(found.trials)) == (0, False, 2)
    assert found.trials[0].values == {"method.gamma": 0.25, "optimization.base_lr": 0.5}
    # The images of the test split are not there: who read them would fail.
    for path in search_folder(study).rglob("run.yaml"):
        run = read_run(path.parent)
        assert (run.name, run.study, run.seed) == ("adem", "tiny", CHOICE_SEED)
        header = json.loads((path.parent / "predictions/scienceqa.header.json").read_text())
        assert header["settings"]["evaluation"]["split"] == "val"
        assert json.loads((path.parent / "adapter/adapter.json").read_text())
    for trial in found.trials:
        assert trial.n == 6
        assert trial.score is not None
        assert trial.seconds > 0
    assert set(lengths(study, found.trials)) == {2.0, 4.0}


def test_those_that_do_well_alone_are_trained_in_full(folder: Path, quick: QuickRuns) -> None:
    study = make_search(folder, trials=8)
    trials = tune(study).trials
    found = lengths(study, trials)
    assert found.count(2.0) == 8
    assert 1 <= found.count(4.0) == sum(trial.is_complete for trial in trials) < 8
    best = best_of(trials)
    assert best is not None
    assert best.score == max(trial.score or 0.0 for trial in trials if trial.is_complete)


def test_text_has_every_trial_and_lines_to_paste(folder: Path, quick: QuickRuns) -> None:
    study = make_search(folder)
    trials = tune(study).trials
    text = search_text(study, trials)
    best = best_of(trials)
    assert best is not None
    minutes = sum(trial.rungs for trial in trials)
    assert text.startswith(f"4 of 4 trials of run adem, {minutes}.0 min of training\n")
    gamma, base_lr = (best.values[path] for path in ("method.gamma", "optimization.base_lr"))
    lines = (
        f"runs:\n  adem:\n    method: {{gamma: {gamma}}}\n    optimization: {{base_lr: {base_lr}}}"
    )
    assert lines in text
    assert all(f"{trial.score:.2f}" in text for trial in trials)


def test_rates_of_the_grid_are_searched_unless_the_space_has_them(
    folder: Path, quick: QuickRuns
) -> None:
    grid = {"optimization": {"lr_grid": [0.1, 0.3]}}
    space = {"method.gamma": {"choices": [0.25]}}
    study = make_search(folder, run=grid, space=space, rungs=1)
    trials = tune(study).trials
    assert sorted(trial.values["optimization.base_lr"] for trial in trials) == [0.1, 0.3]
    assert "optimization:\n      base_lr: 0.3\n      lr_grid: []\n" in search_text(study, trials)


def test_finished_search_is_only_read_and_goes_on_with_more_trials(
    folder: Path, quick: QuickRuns
) -> None:
    study = make_search(folder)
    trials = tune(study).trials
    trained = len(quick.trained)
    assert tune(study).trials == trials
    (search_folder(study) / "trials.journal").unlink()
    assert tune(study).trials == trials  # made again from the trainings
    more = make_search(folder, trials=6)
    assert tune(more, minutes=0).trials == trials
    assert len(quick.trained) == trained
    assert tune(more).trials[:4] == trials
    assert search_folder(more) == search_folder(study)
    for other in ({"seed": 1}, {"rungs": 1}, {"space": {"method.beta": {"choices": [0.1, 1.0]}}}):
        assert search_folder(make_search(folder, **other)) != search_folder(study)


@pytest.mark.parametrize("place", ["train", "evaluate_run", "read_val_score"])
@pytest.mark.parametrize("number", [0, 1, 4])
def test_killed_anywhere_it_ends_as_if_undisturbed(
    place: str, number: int, folder: Path, quick: QuickRuns
) -> None:
    quick.kill_in = (place, number)
    study = make_search(folder)
    with pytest.raises(Killed):
        tune(study)
    killed = tune(study).trials
    assert len(quick.trained) == len(set(quick.trained)) == sum(trial.rungs for trial in killed)
    apart = make_search(folder, results_dir=folder / "undisturbed")
    assert list(map(asdict, tune(apart).trials)) == list(map(asdict, killed))


def test_budget_ends_a_training_that_goes_on_in_the_next_call(folder: Path) -> None:
    study = make_search(folder, trials=1, rungs=1)
    ended = tune(study, minutes=1e-6, threads=1)  # far less than a training takes
    assert (ended.trials, ended.exit_code, ended.is_used_up) == ((), 0, True)
    assert "0 of 1 trials" in search_text(study, ended.trials)
    assert len(tune(study, threads=1).trials) == 1


def test_signal_in_a_training_is_the_exit_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_module, "train", lambda *_, **__: EXIT_RETRY)
    ended = tune(make_search(folder))
    assert (ended.trials, ended.exit_code, ended.is_used_up) == ((), EXIT_RETRY, False)


def test_trial_that_diverges_is_told_and_not_chosen(
    folder: Path, quick: QuickRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(run_dir: Path, **_: object) -> int:
        if read_run(run_dir).method.gamma == 0.5:  # type: ignore[attr-defined]
            raise NotFiniteError("steps 3 to 12: the loss is not finite\nitems")
        return quick.train(run_dir)

    monkeypatch.setattr(tune_module, "train", train)
    space = {"method.gamma": {"choices": [0.0, 0.5]}}
    study = make_search(folder, space=space, trials=5, rungs=1)
    found = tune(study).trials
    assert len(found) == 2  # of five: there are no more values
    (lost,) = (trial for trial in found if trial.values["method.gamma"] == 0.5)
    assert (lost.score, lost.is_complete) == (None, False)
    text = search_text(study, found)
    assert f"trial {lost.number}: steps 3 to 12: the loss is not finite\n" in text
    assert "gamma: 0.0}" in text
    alone = make_search(folder, space={"method.gamma": {"choices": [0.5]}})
    assert "so none is the best" in search_text(alone, tune(alone).trials)


def test_lost_process_is_no_fault_of_the_values(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> int:
        raise ProcessLostError("another process is gone")

    monkeypatch.setattr(tune_module, "train", train)
    study = make_search(folder)
    with pytest.raises(ProcessLostError):
        tune(study)
    assert tune(study, minutes=0).trials == ()


def test_values_that_cannot_stand_together_are_a_failed_trial(
    folder: Path, quick: QuickRuns
) -> None:
    space = {
        "optimization.effective_batch_size": {"choices": [2, 4]},
        "optimization.loss_group_size": {"choices": [1, 4]},
    }
    batch = {"optimization": {"per_device_batch_size": 2}}
    # 4 does not divide 2; alone each of them can be.
    study = make_search(folder, run=batch, space=space, trials=8, rungs=1)
    failures = [trial.failure for trial in tune(study).trials]
    assert len(failures) == 4
    (failure,) = filter(None, failures)
    assert "runs.adem.optimization.loss_group_size: 4 does not divide" in failure
    assert len(quick.trained) == 3


def test_values_that_only_the_data_show_to_be_wrong_are_a_failed_trial(folder: Path) -> None:
    # There are 12 items.
    space = {"optimization.effective_batch_size": {"choices": [4, 400]}}
    study = make_search(folder, space=space, trials=8, rungs=1)
    right, wrong = tune(study, threads=1).trials
    assert (right.values, right.failure) == ({"optimization.effective_batch_size": 4}, "")
    assert wrong.score is None
    assert "optimization.effective_batch_size: 400, but the training data has only" in wrong.failure


def test_length_without_a_step_is_told(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"trial 0, of 0\.04 epochs: .* less than one step"):
        tune(make_search(folder, reduction=100))


def test_two_searches_at_once_are_refused(folder: Path) -> None:
    study = make_search(folder)
    search_folder(study).mkdir(parents=True)
    with (
        lock_file(search_folder(study) / ".tune.lock"),
        pytest.raises(AdemvlError, match="another `ademvl tune` is at work"),
    ):
        tune(study)


def test_study_without_a_search_is_told_how_to_ask_for_one(folder: Path) -> None:
    with pytest.raises(SettingsError, match="study tiny has no `tune`: name a run"):
        tune(make_search(folder, run=None))
