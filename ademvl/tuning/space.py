"""One searched setting: what optuna draws for it, and the value that a run gets."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ademvl.config.search_space import SearchedValues
from ademvl.config.study import Study
from ademvl.config.tuned_run import searchable, searched_space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_DIGITS = 4
_ROUNDING = 1e-9


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
        """Return the value for what was drawn; real numbers have four digits, to be written."""
        low, high = self.values.low, self.values.high
        if low is None or high is None:
            return json.loads(param)
        if isinstance(param, int):
            return param
        return min(max(float(f"{param:.{_DIGITS}g}"), low), high)

    @property
    def start_param(self) -> Any:
        """What is drawn for the run's own value; None where it is not among the values."""
        low, high, step = self.values.low, self.values.high, self.values.step
        if low is None or high is None:
            is_choice = self.start in self.values.choices
            return json.dumps(self.start) if is_choice else None
        if self.start is None or not low <= self.start <= high:
            return None
        steps = (self.start - low) / step if step else 0.0
        return self.start if abs(steps - round(steps)) < _ROUNDING else None


def searched_settings(study: Study) -> dict[str, SearchedSetting]:
    """Return what a study's search is about, by path of the setting."""
    start = searchable(study.settings.runs[study.settings.tune.run])
    space = searched_space(study.settings)
    return {path: SearchedSetting(values, start[path]) for path, values in space.items()}
