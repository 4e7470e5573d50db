"""What a search found, as text: a table of its trials, and the best one's lines for a study."""

from collections.abc import Sequence

import yaml

from ademvl.config.nested import from_flat
from ademvl.config.optimization import CHOICE_SEED
from ademvl.config.study import Study
from ademvl.config.tuned_run import searched_space
from ademvl.text_table import aligned
from ademvl.tuning.search import Trial

_NOTE = f"""\
One training each, by seed {CHOICE_SEED}: what differs by less than seeds do is chosen by chance.
Train the best as a run beside {{run}}, with five seeds, and ask `ademvl compare`.
"""


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the best of the trials that had the longest training, the first of equal ones."""
    complete = [trial for trial in trials if trial.is_complete]
    return max(complete, key=lambda trial: trial.score or 0.0, default=None)


def search_text(study: Study, trials: Sequence[Trial]) -> str:
    """Render a search: its trials, those first that were trained longest, and the best one's lines.

    Args:
        study: with the search.
        trials: finished ones.
    """
    tune = study.settings.tune
    minutes = sum(trial.seconds for trial in trials) / 60
    head = f"{len(trials)} of {tune.trials} trials of run {tune.run}, {minutes:.1f} min of training"
    if not trials:
        return f"{head}\n"
    text = f"{head}\n\n{_table(study, trials)}"
    best = best_of(trials)
    if best is None:
        return f"{text}\nNo trial has had the longest training yet, so none is the best.\n"
    return (
        f"{text}\nThe best, trial {best.number}, as lines of the study:\n\n"
        f"{_lines(study, best)}\n{_NOTE.format(run=tune.run)}"
    )


def _table(study: Study, trials: Sequence[Trial]) -> str:
    space = searched_space(study.settings)
    rows = [["trial", "val score", "n", "epochs", "min", *space]]
    for trial in sorted(trials, key=lambda trial: (-trial.rungs, -(trial.score or 0.0))):
        score = "–" if trial.score is None else f"{trial.score:.2f}"
        costs = [f"{trial.n:,}", f"{_epochs(study, trial):.3g}", f"{trial.seconds / 60:.1f}"]
        values = [_as_yaml(trial.values[path]) for path in space]
        rows.append([str(trial.number), score, *costs, *values])
    notes = [f"trial {trial.number}: {trial.failure}" for trial in trials if trial.failure]
    return "\n".join([*aligned(rows, num_left=0), *notes, ""])


def _epochs(study: Study, trial: Trial) -> float:
    """Return the length of a trial's longest finished training."""
    tune = study.settings.tune
    epochs = trial.values.get(
        "optimization.epochs", study.settings.runs[tune.run].optimization.epochs
    )
    return float(epochs) * tune.reduction ** (trial.rungs - tune.rungs) if trial.rungs else 0.0


def _lines(study: Study, trial: Trial) -> str:
    name = study.settings.tune.run
    values = dict(trial.values)
    if study.settings.runs[name].optimization.lr_grid:
        values["optimization.lr_grid"] = []
    lines: str = yaml.safe_dump(
        {"runs": {name: from_flat(values)}},
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
    )
    return lines


def _as_yaml(value: object) -> str:
    """Return a value as it stands in one line of a study file."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
