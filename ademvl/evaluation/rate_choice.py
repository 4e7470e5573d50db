"""Chooses a run's learning rate: trains each of its grid, and scores them on the val split.

Which rates are tried, also beyond the grid, is the rule's to say (`next_rate`).

Killed at any moment, the same call goes on: a training from its last state, an evaluation after its
last whole batch; finished candidates are not made again.
"""

import logging
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_json, write_settings
from ademvl.config.tasks import all_facts, facts_of
from ademvl.errors import SettingsError
from ademvl.evaluation.run import evaluate_run, predict_ahead
from ademvl.evaluation.val_score import read_val_score
from ademvl.runs.chosen_rate import (
    Candidate,
    RateChoice,
    candidate_dir,
    candidate_of,
    choose_rate,
    next_rate,
    write_choice,
)
from ademvl.runs.run_files import RunFiles
from ademvl.training.guard import NotFiniteError
from ademvl.training.run import train_run

_log = logging.getLogger(__name__)


def choose_rate_of(run: RunSettings, folder: Path, output: Path, *, progress: bool = True) -> int:
    """Choose among a run's grid, and write the record of the choice.

    Args:
        run: settings, with a grid; its seed and rate have no part.
        folder: where the candidates are trained, a directory for each.

    Returns:
        0 when it is written; else the exit code of a training that a signal has ended.

    Raises:
        SettingsError: no grid, or a task without a val split.
        TrainingError: every training diverged.
        AdemvlError: what is wrong with the run's inputs.
    """
    if not run.optimization.lr_grid or not facts_of(run.task).has_val_split:
        able = [facts.name for facts in all_facts().values() if facts.has_val_split]
        raise SettingsError(
            f"run {run.name}: a rate is chosen for runs with optimization.lr_grid, of the tasks "
            f"{' and '.join(able)}"
        )
    candidates = list[Candidate]()
    while (base_lr := next_rate(run.optimization, candidates)) is not None:
        run_dir = candidate_dir(folder, base_lr)
        write_settings(RunFiles(run_dir).settings, run_to_json(candidate_of(run, base_lr)))
        try:
            code = train_run(run_dir, progress=progress, on_trained=predict_ahead)
        except NotFiniteError as error:
            _log.warning("%s: base_lr %g diverged: %s", run.name, base_lr, error)
            candidate = Candidate(base_lr=base_lr, failure=str(error).partition("\n")[0])
        else:
            if code:
                return code
            evaluate_run(run_dir, progress=progress)
            found = read_val_score(run_dir, facts_of(run.task))
            _log.info("%s: base_lr %g scores %.2f on val", run.name, base_lr, found.percent)
            candidate = Candidate(
                base_lr=base_lr, score=found.percent, n=found.n, seconds=found.seconds
            )
        candidates = sorted([*candidates, candidate], key=lambda tried: tried.base_lr)
    chosen = choose_rate(candidates)
    choice = RateChoice(run=run.name, base_lr=chosen, candidates=tuple(candidates))
    write_choice(output, choice)
    return 0
