"""Runs of a study that differ from a base run in exactly one setting: one factor at a time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ademvl.config.schema import all_plain
from ademvl.config.study import Study
from ademvl.config.study_settings import RunTemplate

_NO_FACTORS = ("label", "seeds", "reported", "adapter")
"""Keys of a run that are not compared: its seeds, and what no result depends on."""
_NOT_COMPARABLE = ("task", "dataset", "evaluation.split")


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
    compared with the base runs before them. Another task, data set or split is no factor: what is
    asked must be the same, so that runs can be compared item by item.
    """
    runs, bases = study.settings.runs, study.settings.base_runs
    settings = {name: dict(_settings_of(template)) for name, template in runs.items()}
    found = []
    for name in runs:
        candidates = bases[: bases.index(name)] if name in bases else bases
        for base in candidates:
            paths = _differing(settings[name], settings[base])
            if len(paths) == 1 and paths[0] not in _NOT_COMPARABLE:
                values = settings[name][paths[0]], settings[base][paths[0]]
                found.append(
                    OneFactorRun(
                        run=name, base=base, path=paths[0], value=values[0], base_value=values[1]
                    )
                )
                break
    return tuple(found)


def _settings_of(template: RunTemplate) -> Iterator[tuple[str, Any]]:
    plain = all_plain(template)
    return _leaves({key: value for key, value in plain.items() if key not in _NO_FACTORS})


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [path for path in first if first[path] != second[path]]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
