"""What a study keeps of the files that it includes: `only` names runs, `null` drops an entry.

Data sets that only dropped runs name go with them: nothing is downloaded for what is not run.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ademvl.config.findings import suggest
from ademvl.config.inheritance import owner_of
from ademvl.errors import SettingsError, list_findings

ONLY = "only"
_GROUPS = ("runs", "datasets", "backbones")
_REMEDY = "`only` and null are about entries that included files bring."

Raw = Mapping[str, Any]


def keep_chosen(included: Raw, content: Raw, *, source: str) -> dict[str, Any]:
    """Return a study without the included entries that it does not want.

    Args:
        included: what the included files say.
        content: the same, with what the including file says above it.
        source: file or place it comes from.

    Raises:
        SettingsError: lists names that no included file has.
    """
    if findings := list(_findings(included, content)):
        raise SettingsError(list_findings(f"{source}: wrong settings", findings, _REMEDY))
    chosen = {key: value for key, value in content.items() if key != ONLY}
    for group in _GROUPS:
        if isinstance(entries := content.get(group), Mapping):
            chosen[group] = {name: raw for name, raw in entries.items() if raw is not None}
    known = _entries(included, "runs")
    if ONLY in content:
        chosen["runs"] = {
            name: raw
            for name, raw in _entries(chosen, "runs").items()
            if name not in known or name in content[ONLY]
        }
    kept = _entries(chosen, "runs")
    dropped = {name: known[name] for name in known.keys() - kept.keys()}
    default = _entries(content, "defaults").get("dataset")
    if gone := {*_datasets_of(dropped, default)} - {*_datasets_of(kept, default)}:
        datasets = _entries(chosen, "datasets")
        chosen["datasets"] = {name: raw for name, raw in datasets.items() if name not in gone}
    return chosen


def _findings(included: Raw, content: Raw) -> Iterator[str]:
    only, known = content.get(ONLY, []), _entries(included, "runs")
    if not isinstance(only, Sequence) or isinstance(only, str):
        yield f"{ONLY}: {only!r}, expected a list of runs of included files"
    else:
        for name in only:
            if not isinstance(name, str) or name not in known:
                yield f"{ONLY}: {name!r}{suggest(str(name), list(map(str, known)))}"
    for group in _GROUPS:
        there = _entries(included, group)
        for name, raw in _entries(content, group).items():
            if raw is None and name not in there:
                yield f"{group}.{name}: null{suggest(str(name), list(map(str, there)))}"


def _entries(raw: Raw, group: str) -> Raw:
    found = raw.get(group)
    return found if isinstance(found, Mapping) else {}


def _datasets_of(runs: Raw, default: Any) -> Iterator[Any]:
    """Yield what runs name, and the default's where one names none and takes no other's adapter."""
    for run in runs.values():
        if isinstance(run, Mapping):
            yield from (run[key] for key in ("dataset", "evaluation_dataset") if run.get(key))
            if not run.get("dataset") and not owner_of(run):
                yield default
