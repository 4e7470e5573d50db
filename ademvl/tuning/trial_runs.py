"""The runs of a trial: those of the study with other values, trained for longer and longer."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from ademvl.config.optimization import CHOICE_SEED
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_json, study_to_json
from ademvl.config.study import Study, load_study
from ademvl.config.tuned_run import searched_space, with_values
from ademvl.planning.possible import refuse_impossible
from ademvl.runs.identity import identity_sha256
from ademvl.runs.versions import RESULT_VERSIONS

_SHOWN_DIGITS = 8


def trial_runs(study: Study, values: Mapping[str, Any]) -> list[RunSettings]:
    """Return the runs of a trial, the shortest first.

    They are runs of the study as its file could have them, by a seed that no run should have, and
    are asked the val split. Each has a schedule of its own: a short one is a whole training.

    Args:
        study: with a search.
        values: of the searched settings, by path.

    Raises:
        SettingsError: no run can have these values together.
    """
    tune = study.settings.tune
    run = with_values(study.settings.runs[tune.run], values)
    run |= {"seeds": [CHOICE_SEED], "evaluation": run["evaluation"] | {"split": "val"}}
    plain = json.loads(study_to_json(study))
    others = {name: raw for name, raw in plain["runs"].items() if raw.get("adapter") != tune.run}
    del plain["tune"]
    changed = load_study({**plain, "runs": others | {tune.run: run}, "base_runs": []})
    full = next(one for one in changed.runs if one.name == tune.run)
    refuse_impossible(dataclasses.replace(changed, runs=(full,)))
    lengths = [tune.reduction**-rung for rung in reversed(range(tune.rungs))]
    return [_trained_for(full, length) for length in lengths]


def _trained_for(run: RunSettings, length: float) -> RunSettings:
    """Return a run with a fraction of its epochs."""
    optimization = dataclasses.replace(
        run.optimization,
        epochs=run.optimization.epochs * length,
        warmup_epochs=run.optimization.warmup_epochs * length,
    )
    return dataclasses.replace(run, optimization=optimization)


def search_name(study: Study) -> str:
    """Return the name of a search: another one for each run, space and set of rules.

    Not for another number of trials, so that a search can go on with more of them.
    """
    tune = study.settings.tune
    run = next(run for run in study.runs if run.name == tune.run)
    space = searched_space(study.settings)
    identity = {
        "run": json.loads(run_to_json(run)),
        "datasets": {name: data.to_plain() for name, data in study.settings.datasets.items()},
        "space": {path: dataclasses.asdict(values) for path, values in space.items()},
        "rules": [tune.rungs, tune.reduction, tune.seed],
        "versions": [RESULT_VERSIONS["train"], RESULT_VERSIONS["evaluate"]],
    }
    return f"{tune.run}_{identity_sha256(identity)[:_SHOWN_DIGITS]}"
