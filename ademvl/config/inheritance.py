"""How runs inherit: each from the study's defaults, or from the run whose adapter it evaluates."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ademvl.config.run import EVALUATION_PROMPTS, RELEASED, TRAINED
from ademvl.errors import SettingsError, list_findings

_OWN = ("label", "reported")
"""Keys that a run never takes over from the run whose adapter it evaluates."""
_FREE = frozenset(
    {
        *("adapter", "evaluation", "evaluation_dataset", "label", "reported", "seeds"),
        *(f"prompts.{key}" for key in EVALUATION_PROMPTS),
    }
)
"""Keys that such a run may change: nothing that its adapter depends on."""


def merge_runs(
    defaults: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]], *, source: str
) -> dict[str, dict[str, Any]]:
    """Fill in what each run does not name itself.

    Args:
        defaults: raw settings that every run starts from.
        runs: raw settings by name; already checked by schema.
        source: file or place they come from.

    Raises:
        SettingsError: a run takes its adapter from a run that is not there or has none of its own.
    """
    findings = [text for name, raw in runs.items() for text in _reference_findings(name, raw, runs)]
    if findings:
        known = ", ".join(name for name, raw in runs.items() if not _owner(raw))
        remedy = f"Give `{TRAINED}`, `{RELEASED}` or one of the runs {known}."
        raise SettingsError(list_findings(f"{source}: adapters of no run", findings, remedy))
    merged = {}
    for name, raw in runs.items():
        base = dict(defaults)
        if owner := _owner(raw):
            taken = {key: value for key, value in runs[owner].items() if key not in _OWN}
            base = merge(base, taken)
        merged[name] = merge(base, raw)
    return merged


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the keys of `overrides`, nested ones one by one."""
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def check_shared_adapters(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse runs that change what the adapter that they take over depends on.

    Args:
        runs: complete plain settings by name.

    Raises:
        SettingsError: lists each such key, and seeds that the other run does not train.
    """
    findings = []
    for name, run in runs.items():
        if (owner := run["adapter"]) in (TRAINED, RELEASED):
            continue
        findings += [
            f"runs.{name}.{key}: {value!r}, but {theirs!r} in run {owner}, whose adapter it takes"
            for key, value, theirs in differences(run, runs[owner], allowed=_FREE)
        ]
        if missing := [seed for seed in run["seeds"] if seed not in runs[owner]["seeds"]]:
            findings.append(f"runs.{name}.seeds: {missing} are no seeds of run {owner}")
    if findings:
        allowed = ", ".join(sorted(_FREE - {"adapter"}))
        remedy = f"Such a run may change {allowed}; `adapter: {TRAINED}` trains it on its own."
        raise SettingsError(list_findings("Runs that do not fit their adapter", findings, remedy))


def _owner(raw: Mapping[str, Any]) -> str:
    """Return the run whose adapter a run takes, empty where it has its own."""
    adapter = raw.get("adapter", TRAINED)
    return "" if adapter in (TRAINED, RELEASED) else str(adapter)


def _reference_findings(
    name: str, raw: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    owner = _owner(raw)
    if not owner:
        return
    if owner not in runs:
        yield f"runs.{name}.adapter: {owner!r} is no run of the study"
    elif _owner(runs[owner]):
        yield f"runs.{name}.adapter: {owner} takes the adapter of {_owner(runs[owner])} itself"


def differences(
    run: Mapping[str, Any], other: Mapping[str, Any], *, allowed: Collection[str], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted key and both values of each setting that differs.

    Args:
        run: complete plain settings.
        other: the same of another run.
        allowed: keys that may differ.
        prefix: of the keys.
    """
    for key, value in run.items():
        path = f"{prefix}{key}"
        if path in allowed or value == other[key]:
            continue
        if isinstance(value, Mapping):
            yield from differences(value, other[key], allowed=allowed, prefix=f"{path}.")
        else:
            yield path, value, other[key]
