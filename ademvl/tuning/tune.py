"""Searches good settings of a run: trains it with other values, those for longer that do well.

Successive halving as in ASHA (arXiv 1810.05934), one trial after the other: each is trained for
the shortest length and scored on val, and goes on to the next length only when it is among the best
1/`reduction` by then. Values come from optuna's tree-structured Parzen estimator. The test split
has no part in it.

Killed at any moment, the same call goes on: a training from its last state, an evaluation after its
last whole batch; finished trials are not made again.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.study import Study
from ademvl.config.tasks import facts_of
from ademvl.errors import AdemvlError, ProcessLostError, SettingsError, TrainingError
from ademvl.evaluation.run import evaluate_run, predict_ahead
from ademvl.evaluation.val_score import ValScore, read_val_score
from ademvl.runs.identity import identity_sha256
from ademvl.runs.run_files import RunFiles
from ademvl.storage.locks import try_lock_file
from ademvl.training.interruption import Interruption
from ademvl.training.launch import train
from ademvl.tuning.search import Search, Trial, refuse_missing_optuna
from ademvl.tuning.space import searched_settings
from ademvl.tuning.trial_runs import search_name, trial_runs

if TYPE_CHECKING:
    import optuna

_log = logging.getLogger(__name__)
_NAME_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a call of `tune` left.

    Attributes:
        trials: all finished ones, those of earlier calls too.
        exit_code: 0 where all were made or the budget is used up; else that of a training which a
            signal has ended.
        is_used_up: whether the budget ended the call.
        folder: of the search.
    """

    trials: tuple[Trial, ...]
    exit_code: int
    is_used_up: bool
    folder: Path


def search_folder(study: Study) -> Path:
    """Return the folder of a study's search: another one for another run, space or rule.

    Raises:
        SettingsError: the study asks for none.
    """
    if not study.settings.tune.run:
        raise SettingsError(
            f"study {study.name} has no `tune`: name a run and values of its settings, such as\n"
            "tune:\n  run: adem\n  space:\n    method.gamma: {low: 0.0, high: 0.6}\n"
            "`ademvl tune --help` explains it."
        )
    return study.results_dir / "tune" / search_name(study)


def tune(
    study: Study,
    *,
    minutes: float | None = None,
    threads: int | None = None,
) -> Tuned:
    """Search until all trials are made, or until the budget is used up.

    Args:
        study: with a search; its data are there.
        minutes: budget of this call; a training that it ends goes on in the next one. 0 only reads
            what there is, None sets no limit.
        threads: of torch on the CPU; None leaves its own choice.

    Raises:
        SettingsError: no search in the study, or a trial that is too short to be trained.
        ToolError: optuna is missing.
        DataError: the file of trials is damaged.
        AdemvlError: what is wrong with the runs' inputs, or another search is at work here.
    """
    refuse_missing_optuna()
    settings, folder = study.settings.tune, search_folder(study)
    folder.mkdir(parents=True, exist_ok=True)
    lock = try_lock_file(folder / ".tune.lock")
    if lock is None:
        raise AdemvlError(f"{folder}: another `ademvl tune` is at work on this search; wait for it")
    with lock, Interruption().handled():
        search = Search(
            folder / "trials.journal",
            searched_settings(study),
            reduction=settings.reduction,
            seed=settings.seed,
        )
        budget, code = _Budget(minutes), 0
        try:
            with budget.running():
                while not budget.is_used_up and len(search.trials) < settings.trials:
                    trial = search.propose()
                    if trial is None:
                        _log.info("nearly all values of the space were tried: no more trials")
                        break
                    _try(study, search, trial, folder, threads=threads)
        except SystemExit as ended:  # by a signal; what was in hand is saved
            code = 0 if budget.is_used_up else int(ended.code or 0)
        found = tuple(search.trials)
    return Tuned(trials=found, exit_code=code, is_used_up=budget.is_used_up, folder=folder)


class _Budget:
    """Time that a call may take; what it ends gets the signal of a cluster's time limit.

    Args:
        minutes: None sets no limit.
    """

    def __init__(self, minutes: float | None) -> None:
        self.is_used_up = minutes == 0
        self._timer = threading.Timer((minutes or 0.0) * 60, self._end) if minutes else None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let the time pass in this block."""
        if self._timer is None:
            yield
            return
        self._timer.daemon = True
        self._timer.start()
        try:
            yield
        finally:
            self._timer.cancel()

    def _end(self) -> None:
        self.is_used_up = True
        os.kill(os.getpid(), signal.SIGTERM)


def _try(
    study: Study, search: Search, trial: "optuna.Trial", folder: Path, *, threads: int | None
) -> None:
    """Train and score the runs of one trial until it is done or given up, and keep it.

    Raises:
        SystemExit: a signal has ended a training.
    """
    tune, values, seconds = study.settings.tune, search.values_of(trial.params), 0.0
    shown = ", ".join(f"{path} {value}" for path, value in values.items())
    is_complete = False
    try:
        runs = trial_runs(study, values)
    except SettingsError as error:
        _note_failure(trial, error)
        runs = []
    for rung, run in enumerate(runs):
        epochs = run.optimization.epochs
        _log.info("trial %d: %s; %g epochs", trial.number, shown, epochs)
        run_dir = folder / identity_sha256(values)[:_NAME_DIGITS] / f"epochs{epochs:g}"
        try:
            found = _score(run, run_dir / f"seed{run.seed}", threads=threads)
        except ProcessLostError:
            raise
        except TrainingError as error:  # its values are to blame: it diverged, or lacked memory
            _note_failure(trial, error)
            break
        except SettingsError as error:
            if any(path in str(error) for path in values):  # only its data show that it cannot be
                _note_failure(trial, error)
                break
            raise SettingsError(f"trial {trial.number}, of {epochs:g} epochs: {error}") from error
        seconds += found.seconds
        _log.info("trial %d scores %.2f on val", trial.number, found.percent)
        trial.report(found.percent, tune.reduction**rung)
        trial.set_user_attr("n", found.n)
        trial.set_user_attr("seconds", seconds)
        is_complete = rung == tune.rungs - 1
        if not is_complete and trial.should_prune():
            break
    search.keep(trial, is_complete=is_complete)


def _score(run: RunSettings, run_dir: Path, *, threads: int | None) -> ValScore:
    """Train a run and evaluate it on val, as the workflow's verbs do."""
    write_settings(RunFiles(run_dir).settings, run_to_json(run))
    if code := train(run_dir, threads=threads, on_trained=predict_ahead):
        raise SystemExit(code)
    evaluate_run(run_dir, threads=threads)
    return read_val_score(run_dir, facts_of(run.task))


def _note_failure(trial: "optuna.Trial", error: AdemvlError) -> None:
    headline, *findings = str(error).splitlines()
    failure = f"{headline} {findings[0].strip(' -')}" if headline.endswith(":") else headline
    _log.warning("trial %d failed: %s", trial.number, failure)
    trial.set_user_attr("failure", failure)
