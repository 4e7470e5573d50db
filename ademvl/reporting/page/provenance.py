"""Where the study's results come from, as the page tells it: facts, each with its runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from ademvl.reporting.page.settings_difference import flatten
from ademvl.reporting.printable import printable
from ademvl.reporting.results import StudyResults
from ademvl.runs.provenance import sources_sha256

_GROUPS = {
    "Code": ("code.", "python"),
    "Packages": ("packages.",),
    "Hardware": ("hardware.", "device", "threads"),
    "Data and weights (checksums)": ("checksums.",),
}


@dataclass(frozen=True)
class Fact:
    """A fact of provenance: values, each with the trainings it holds for; none where for all."""

    name: str
    values: tuple[tuple[str, tuple[str, ...]], ...]


def gather_facts(results: StudyResults) -> dict[str, list[Fact]]:
    """Return the facts of all trainings by group; empty where nothing has been trained."""
    found: dict[str, dict[str, dict[str, list[str]]]] = {}
    trained = 0
    for run in results.runs:
        for seed in run.seeds:
            if not seed.provenance:
                continue
            trained += 1
            label = f"{printable(run.label)} ({seed.settings.task}), seed {seed.settings.seed}"
            for name, value in flatten(seed.provenance):
                group = _group_of(name)
                if group:
                    found.setdefault(group, {}).setdefault(name, {}).setdefault(value, []).append(
                        label
                    )
    return {
        group: [_fact(name, values, trained) for name, values in sorted(found[group].items())]
        for group in _GROUPS
        if group in found
    }


def _group_of(name: str) -> str:
    return next(
        (group for group, prefixes in _GROUPS.items() if name.startswith(prefixes)),
        "",
    )


def _fact(name: str, values: Mapping[str, list[str]], trained: int) -> Fact:
    is_shared = len(values) == 1 and len(next(iter(values.values()))) == trained
    return Fact(
        name.partition(".")[2] or name,
        tuple((value, () if is_shared else tuple(labels)) for value, labels in values.items()),
    )


def other_code(results: StudyResults) -> list[str]:
    """Name the runs that were trained by other code than that which writes the page."""
    now = sources_sha256()
    return [
        f"{printable(run.label)} ({seed.settings.task}), seed {seed.settings.seed}"
        for run in results.runs
        for seed in run.seeds
        if seed.provenance and (seed.provenance.get("code") or {}).get("sources_sha256") != now
    ]
