"""Runs of a study that differ from a base run in exactly one setting: one factor at a time."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ademvl.config.influence import told_differences
from ademvl.config.study import Study

_NOT_COMPARABLE = ("task", "dataset", "evaluation.split")
_TOWER = "backbones.tower"
_OF_TOWER = (
    *("backbones.tower_weights", "backbones.tower_cls", "features.normalization"),
    "method.scales",
)
"""What goes with a tower, as its pixels and its grid do: with another one they are one change."""


@dataclass(frozen=True, kw_only=True)
class OneFactorRun:
    """A run, and the one setting in which it differs from its base.

    Attributes:
        run, base: keys under `runs`.
        path: of the setting, such as `method.gamma`.
        value, base_value: of the setting, as plain values.
    """

    run: str
    base: str
    path: str
    value: Any
    base_value: Any

    @property
    def label(self) -> str:
        """The setting and both of its values, such as `method.gamma: 0.1 -> 0.0`."""
        return f"{self.path}: {_text(self.base_value)} -> {_text(self.value)}"


def one_factor_runs(study: Study) -> tuple[OneFactorRun, ...]:
    """Find the runs that differ in one setting from one of the study's `base_runs`.

    Runs come in the order of the study file, each with the first base that it fits. Base runs are
    compared with the base runs before them. A tower with its weights, pixels and the scales of its
    grid is one setting.
    Another task, data set or split is no factor: what is asked must be the same, so that runs can
    be compared item by item. Settings that change no results do not count.
    """
    runs, bases = study.settings.runs, study.settings.base_runs
    found = []
    for name in runs:
        candidates = bases[: bases.index(name)] if name in bases else bases
        for base in candidates:
            differences = _with_one_tower(told_differences(runs[name], runs[base]))
            if len(differences) == 1 and differences[0][0] not in _NOT_COMPARABLE:
                path, value, base_value = differences[0]
                found.append(
                    OneFactorRun(run=name, base=base, path=path, value=value, base_value=base_value)
                )
                break
    return tuple(found)


def _with_one_tower(differences: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Leave out what goes with a tower where the tower itself differs."""
    if all(path != _TOWER for path, _, _ in differences):
        return differences
    return [found for found in differences if found[0] not in _OF_TOWER]


def pairs_differing_in(study: Study, path: str) -> Iterator[OneFactorRun]:
    """Yield all ordered pairs of runs that differ in this one setting, whatever is a base run.

    Runs come in the order of the study file.

    Args:
        study: whose runs are compared.
        path: of the setting, such as `method.gamma`.
    """
    for (run, ours), (base, theirs) in itertools.permutations(study.settings.runs.items(), 2):
        differences = told_differences(ours, theirs)
        if [difference[0] for difference in differences] == [path]:
            ((_, value, base_value),) = differences
            yield OneFactorRun(run=run, base=base, path=path, value=value, base_value=base_value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
