"""Where the runs of a study differ from the paper's settings, setting by setting."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ademvl.config.influence import told_settings
from ademvl.config.nested import leaves
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_plain
from ademvl.config.study import Study, load_study
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.storage.project import PROJECT, STUDIES

PAPER_STUDY = PROJECT / STUDIES / "paper-7b.yaml"
_MAX_LABELS = 3
_Values: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
_METHOD = "method.name"
_PATHS = ("backbones.llm", "backbones.tower_weights")


@dataclass(frozen=True)
class Difference:
    """A setting that differs from the paper's in some run.

    Attributes:
        tasks: of the runs.
        name: dotted key.
        paper: the paper's value.
        here: value and labels of its runs; no labels where all runs of the task share it, and a
            count where most do.
    """

    tasks: tuple[str, ...]
    name: str
    paper: str
    here: _Values


def differences_to_paper(results: StudyResults, paper: Path = PAPER_STUDY) -> list[Difference]:
    """Compare all runs with the paper's run of the same task; tasks that it lacks are left out.

    Settings that cannot change results are left out too; of another method than the paper's only
    its name is told, as its other settings have nothing in common.
    """
    theirs = _first_runs(load_study(paper))
    tasks_of: dict[tuple[str, str, _Values], list[str]] = {}
    for task, reference in theirs.items():
        runs = results.of_task(task)
        settings = [(run, _settings(run.settings)) for run in runs]
        names = dict.fromkeys([*reference, *(name for _, own in settings for name in own)])
        for name in names:
            values: dict[str, list[RunResult]] = {}
            compared = [
                (run, own) for run, own in settings if _are_comparable(name, own, reference)
            ]
            for run, own in compared:
                values.setdefault(own.get(name, "–"), []).append(run)
            expected = reference.get(name, "–")
            if set(values) - {expected}:
                of = "" if len(compared) == len(runs) else f" of method {reference[_METHOD]}"
                key = (name, expected, _labelled(values, of))
                tasks_of.setdefault(key, []).append(task)
    return [Difference(tuple(tasks), *key) for key, tasks in tasks_of.items()]


def _are_comparable(name: str, own: Mapping[str, str], reference: Mapping[str, str]) -> bool:
    is_of_method = name.startswith("method.") and name != _METHOD
    return not is_of_method or own[_METHOD] == reference[_METHOD]


def _labelled(values: Mapping[str, list[RunResult]], of: str) -> _Values:
    """Put labels beside values; `of` says which runs were looked at, where it was not all."""
    if len(values) == 1 and not of:
        return tuple((value, ()) for value in values)
    labels = {
        value: tuple(dict.fromkeys(run.label for run in runs)) for value, runs in values.items()
    }
    commonest = max(labels, key=lambda value: len(labels[value]))
    if len(labels[commonest]) > _MAX_LABELS:
        labels[commonest] = (f"all others{of} ({len(values[commonest])} runs)",)
    return tuple(labels.items())


def _first_runs(study: Study) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for run in study.runs:
        found.setdefault(run.task, _settings(run))
    return found


def _settings(run: RunSettings) -> dict[str, str]:
    written, told = flatten(run_to_plain(run)), told_settings(run)
    texts = {name: text for name, text in written if name in told}
    texts[_METHOD] = run.method.name  # not written of the default method
    for name in _PATHS:
        texts[name] = Path(texts.get(name, "")).name
    return texts


def flatten(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield nested content as dotted keys and texts."""
    for path, value in leaves(content):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield ".".join(path), text
