"""A run with other values of some settings, as `ademvl tune` tries them; and which may be tried."""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from ademvl.config.findings import SettingsFinding
from ademvl.config.influence import fields_of, trains_anew
from ademvl.config.inheritance import merge_settings
from ademvl.config.nested import from_flat
from ademvl.config.plain import all_plain
from ademvl.config.reading import try_reading
from ademvl.config.run import TRAINED
from ademvl.config.search_space import SearchedValues
from ademvl.config.study_settings import RunTemplate, StudySettings
from ademvl.config.tasks import facts_of

BASE_LR = "optimization.base_lr"


def searched_space(settings: StudySettings) -> dict[str, SearchedValues]:
    """Return the values of each searched setting by path, rates of the run's grid among them."""
    tune = settings.tune
    grid = settings.runs[tune.run].optimization.lr_grid
    rates = {BASE_LR: SearchedValues(choices=grid)} if grid else {}
    return {**rates, **tune.space}


def with_values(run: RunTemplate, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's plain settings with other values; its rate is set, no grid chooses it.

    Args:
        run: of a study.
        values: by dotted path.
    """
    changed = merge_settings(all_plain(run), from_flat(values))
    changed["optimization"]["lr_grid"] = []
    return changed


def searchable(run: RunTemplate) -> dict[str, Any]:
    """Return the settings of a run that its training depends on: plain values by path."""
    return {
        ".".join(path): all_plain(value)
        for path, said, value in fields_of(run)
        if len(path) > 1 and trains_anew(said)
    }


def search_findings(settings: StudySettings) -> Iterator[SettingsFinding]:
    """Yield what is wrong with the search that a study asks for."""
    tune = settings.tune
    run = settings.runs.get(tune.run)
    if not tune.run:
        if tune.space:
            yield _finding("missing; name the run whose settings are searched", "run")
    elif run is None:
        known = ", ".join(map(str, settings.runs))
        yield _finding(f"{tune.run!r} is not under runs (known: {known})", "run")
    elif run.adapter != TRAINED:
        yield _finding(f"{tune.run} has adapter: {run.adapter}; nothing of it is trained", "run")
    elif not facts_of(run.task).has_val_split:
        yield _finding(f"task {run.task} of {tune.run} has no val split to choose by", "run")
    elif not searched_space(settings):
        yield _finding("empty; name settings, such as method.gamma, and their values", "space")
    else:
        for path, values in tune.space.items():
            for text in _space_findings(run, path, values):
                yield _finding(text, "space", path)


def _finding(text: str, *path: str) -> SettingsFinding:
    return SettingsFinding(("tune", *path), text, (("tune", *path),))


def _space_findings(run: RunTemplate, path: str, values: SearchedValues) -> Iterator[str]:
    allowed = searchable(run)
    if path not in allowed:
        near = get_close_matches(path, allowed, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"no setting of the run that its training depends on{hint}"
    elif not values.is_range:
        for choice in values.choices:
            yield from _wrong_with(run, path, choice)
    elif isinstance(allowed[path], bool) or not isinstance(allowed[path], int | float | None):
        yield f"{json.dumps(allowed[path])} is no number; list choices in place of a range"
    elif isinstance(allowed[path], int) and not values.is_whole:
        yield f"low {values.low}, high {values.high}, step {values.step}: expected whole numbers"
    else:
        kind = int if isinstance(allowed[path], int) else float
        for end in (values.low, values.high):
            yield from _wrong_with(run, path, kind(end or 0))


def _wrong_with(run: RunTemplate, path: str, value: Any) -> Iterator[str]:
    """Yield why a setting of a run cannot have a value."""
    _, findings = try_reading(RunTemplate, with_values(run, {path: value}))
    for found in findings:
        is_own = ".".join(found.path) == path and not found.is_relation
        yield found.text if is_own else f"{json.dumps(value)} cannot be: {found}"
