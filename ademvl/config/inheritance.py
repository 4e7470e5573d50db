"""How runs inherit: each from the study's defaults, or from the run whose adapter it evaluates.

A run, or a file with includes, that names another method than what it inherits from starts from
that method's own defaults: the inherited keys of `method` belong to the other one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ademvl.config.influence import differing, trains_anew
from ademvl.config.key_lines import KeyLines
from ademvl.config.methods_by_name import DEFAULT_METHOD
from ademvl.config.nested import Path
from ademvl.config.run import ADAPTER_KEYWORDS, TRAINED
from ademvl.config.study_settings import RunTemplate

_OWN = ("label", "reported")
"""Keys that a run never takes over from the run whose adapter it evaluates."""
_LOOKED_AT_APART = ("adapter", "seeds")
"""Keys in which such a run differs by its nature."""
_METHOD = "method"


def merge_settings(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return raw settings with those of `overrides` in front.

    Nested keys are merged one by one, but those of a method only where both have the same.
    """
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            is_other = key == _METHOD and _is_other_method(old, value)
            merged[key] = dict(value) if is_other else merge_settings(old, value)
        else:
            merged[key] = value
    return merged


def _is_other_method(base: Mapping[str, Any], override: Mapping[str, Any]) -> bool:
    """Whether these are settings of two methods; where the second has no name, it inherits it."""
    own = base.get("name", DEFAULT_METHOD)
    return bool(override.get("name", own) != own)


def merge_runs(
    defaults: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Any]],
    *,
    source: str,
    key_lines: KeyLines,
) -> dict[str, dict[str, Any]]:
    """Fill in what each run does not name itself.

    Args:
        defaults: raw settings that every run starts from.
        runs: raw settings by name.
        source: file or place they come from.
        key_lines: file and line of the keys.

    Raises:
        SettingsError: a run takes its adapter from a run that is not there or has none of its own,
            or all runs, by the defaults, from one of them.
    """
    findings = [text for name, raw in runs.items() for text in _reference_findings(name, raw, runs)]
    if owner := owner_of(defaults):
        findings.insert(0, f"defaults.adapter: {owner!r}, but no run can take it from itself")
    if findings:
        known = ", ".join(str(name) for name, raw in runs.items() if not owner_of(raw))
        others = f", or in a run one of the runs {known}" if known else ""
        remedy = f"Give {', '.join(f'`{name}`' for name in ADAPTER_KEYWORDS)}{others}."
        key_lines.refuse(findings, headline=f"{source}: adapters of no run", remedy=remedy)
    merged = {}
    for name, raw in runs.items():
        base = dict(defaults)
        if owner := owner_of(raw):
            taken = {key: value for key, value in runs[owner].items() if key not in _OWN}
            base = merge_settings(base, taken)
        merged[name] = merge_settings(base, raw)
    return merged


def bases_of_runs(runs: Mapping[str, Mapping[str, Any]]) -> dict[Path, tuple[Path, ...]]:
    """Return the paths that each run inherits from, the nearest first."""
    return {
        ("runs", str(name)): (
            *((("runs", owner),) if (owner := owner_of(raw)) else ()),
            ("defaults",),
        )
        for name, raw in runs.items()
    }


def check_shared_adapters(runs: Mapping[str, RunTemplate], key_lines: KeyLines) -> None:
    """Refuse runs that change what the adapter that they take over depends on.

    Args:
        runs: complete settings by name.
        key_lines: file and line of the keys.

    Raises:
        SettingsError: lists each such key, and seeds that the other run does not train.
    """
    findings = []
    for name, run in runs.items():
        if (owner := run.adapter) in ADAPTER_KEYWORDS:
            continue
        findings += [
            f"runs.{name}.{key}: {value!r}, but {theirs!r} in run {owner}, whose adapter it takes"
            for key, value, theirs in differing(run, runs[owner], trains_anew)
            if key not in _LOOKED_AT_APART
        ]
        if missing := [seed for seed in run.seeds if seed not in runs[owner].seeds]:
            findings.append(f"runs.{name}.seeds: {missing} are no seeds of run {owner}")
    key_lines.refuse(
        findings,
        headline="Runs that do not fit their adapter",
        remedy="Such a run may change what its adapter does not depend on, such as evaluation "
        f"(docs/settings.md says of each key); `adapter: {TRAINED}` trains it on its own.",
    )


def owner_of(raw: Mapping[str, Any]) -> str:
    """Return the run whose adapter a run takes, empty where it has its own or names no run."""
    adapter = raw.get("adapter", TRAINED)
    is_run = isinstance(adapter, str) and adapter not in ADAPTER_KEYWORDS
    return str(adapter) if is_run else ""


def _reference_findings(
    name: str, raw: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    owner = owner_of(raw)
    if not owner:
        return
    if owner not in runs:
        yield f"runs.{name}.adapter: {owner!r} is no run of the study"
    elif owner == name:
        yield f"runs.{name}.adapter: {owner!r} is the run itself"
    elif owner_of(runs[owner]):
        yield f"runs.{name}.adapter: {owner} takes the adapter of {owner_of(runs[owner])} itself"
