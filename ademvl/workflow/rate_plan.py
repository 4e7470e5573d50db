"""What the Snakefile asks about learning rates that are chosen from a grid."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ademvl.config.optimization import CHOICE_SEED
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_json
from ademvl.config.study import Study
from ademvl.runs.chosen_rate import choice_file, choosing_run
from ademvl.runs.run_files import RunFiles


class RatePlan:
    """Inputs and params of the choices of one study.

    Args:
        run_of: gives the run that wildcards name.
    """

    def __init__(self, study: Study, run_of: Callable[[Any], RunSettings]) -> None:
        self._study = study
        self._run_of = run_of

    def grid_json(self, wildcards: Any) -> str:
        """Return a run's settings for its choice, which is the same for all its seeds."""
        run = self._run_of(wildcards)
        optimization = dataclasses.replace(run.optimization, base_lr=0.0)
        return run_to_json(dataclasses.replace(run, seed=CHOICE_SEED, optimization=optimization))

    def first_json(self, wildcards: Any) -> str:
        """Return the settings of a run with the first rate of its grid: features know no rate."""
        run = self._run_of(wildcards)
        base_lr = run.optimization.lr_grid[0]
        optimization = dataclasses.replace(run.optimization, base_lr=base_lr, lr_grid=())
        return run_to_json(dataclasses.replace(run, optimization=optimization))

    def folder(self, wildcards: Any) -> str:
        """Folder in which the rates of a run's grid are trained."""
        return self._folder(self._run_of(wildcards))

    def settings_file(self, run: RunSettings) -> str:
        """Settings of a run whose rate is not chosen yet, for the features that it reads."""
        return str(RunFiles(Path(self._folder(run))).settings)

    def _folder(self, run: RunSettings) -> str:
        return str(choice_file(self._study.results_dir, run.name).with_suffix(""))

    def choice(self, wildcards: Any) -> list[str]:
        """Record of the choice of a run's rate; none where it is set."""
        owner = choosing_run(self._run_of(wildcards))
        return [str(choice_file(self._study.results_dir, owner))] if owner else []

    def choice_of_verb(self, wildcards: Any) -> list[str]:
        """Record of the choice of a run's rate, where the results of `{verb}` depend on it."""
        return [] if wildcards.verb == "features" else self.choice(wildcards)
