"""One searched setting: what optuna draws for it, and the value that a run gets."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ademvl.config.search_space import STEP_ROUNDING, SearchedValues
from ademvl.config.study import Study
from ademvl.config.tuned_run import searchable, searched_space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_DIGITS = 4


@dataclass(frozen=True)
class SearchedSetting:
    """A setting, and what its run has.

    Attributes:
        values: that are tried.
        start: value of the run as it is; a whole number where only such are possible.
    """

    values: SearchedValues
    start: Any

    @property
    def distribution(self) -> "BaseDistribution":
        """What optuna draws: choices as JSON, as it takes neither lists nor groups."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        low, high, log, step = self.values.low, self.values.high, self.values.log, self.values.step
        if low is None or high is None:
            return CategoricalDistribution([json.dumps(choice) for choice in self.values.choices])
        if isinstance(self.start, int):
            return IntDistribution(int(low), int(high), log=log, step=int(step) or 1)
        return FloatDistribution(low, high, log=log, step=step or None)

    def value(self, param: Any) -> Any:
        """Return the value for what was drawn; real numbers have four digits, to be written.

        The run's own value stays what it is.
        """
        low, high = self.values.low, self.values.high
        if low is None or high is None:
            return json.loads(param)
        if isinstance(param, int) or param == self.start:
            return param
        return min(max(float(f"{param:.{_DIGITS}g}"), low), high)

    @property
    def start_param(self) -> Any:
        """What is drawn for the run's own value; None where it is not among the values."""
        low, high, step = self.values.low, self.values.high, self.values.step
        if low is None or high is None:
            # As the choice is written: 0 of a list is the run's 0.0.
            same = (choice for choice in self.values.choices if choice == self.start)
            return next(map(json.dumps, same), None)
        if self.start is None or not low <= self.start <= high:
            return None
        steps = (self.start - low) / step if step else 0.0
        return self.start if abs(steps - round(steps)) < STEP_ROUNDING else None


def searched_settings(study: Study) -> dict[str, SearchedSetting]:
    """Return what a study's search is about, by path of the setting."""
    start = searchable(study.settings.runs[study.settings.tune.run])
    space = searched_space(study.settings)
    return {path: SearchedSetting(values, start[path]) for path, values in space.items()}
