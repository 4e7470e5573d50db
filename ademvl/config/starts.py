"""Runs whose training starts from another adapter: which that may be, and where it lies."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ademvl.config.key_lines import KeyLines
from ademvl.config.run import ADAPTER_KEYWORDS, RELEASED, TRAINED
from ademvl.config.study_settings import RunTemplate, StudySettings


def start_folder(settings: StudySettings, start_from: str, seed: int) -> str:
    """Return the folder of the adapter that a run's key `start_from` names; empty for none."""
    if start_from not in settings.runs:
        return start_from
    runs = Path(settings.results_dir) / settings.study / "runs"
    return str(runs / start_from / f"seed{seed}" / "adapter")


def check_starts(runs: Mapping[str, RunTemplate], key_lines: KeyLines) -> None:
    """Refuse runs that start from what cannot be the beginning of their training.

    Args:
        runs: complete settings by name.
        key_lines: file and line of the keys.

    Raises:
        SettingsError: lists all such runs.
    """
    key_lines.refuse(
        (text for name in runs for text in _findings(name, runs)),
        headline="Adapters to start from",
        remedy="`start_from` names a run of the study that has an adapter of the same method on "
        "the same models, or the folder of such an adapter, written with a slash.",
    )


def _findings(name: str, runs: Mapping[str, RunTemplate]) -> Iterator[str]:
    run = runs[name]
    key, start = f"runs.{name}.start_from", run.start_from
    if run.adapter not in ADAPTER_KEYWORDS:
        return  # what its adapter depends on is that of the run that it takes it from
    if not start:
        if run.method.needs_start:
            yield f"{key}: empty, but the method has parameters that only another training gives"
        return
    if run.adapter != TRAINED or run.method.kind != "method":
        yield f"{key}: {start!r}, but the run trains no method"
    elif start in runs:
        yield from _unfit(name, runs)
    elif "/" not in start:
        yield f"{key}: {start!r} is no run of the study"


def _unfit(name: str, runs: Mapping[str, RunTemplate]) -> Iterator[str]:
    run, key = runs[name], f"runs.{name}.start_from"
    start = runs[run.start_from]
    if start.adapter in ADAPTER_KEYWORDS and start.adapter not in (TRAINED, RELEASED):
        yield f"{key}: {run.start_from} has no adapter"
        return
    if name in _line_of_starts(run.start_from, runs):
        yield f"{key}: {run.start_from} starts from the run itself"
    for what, ours, theirs in (
        ("method.name", run.method.name, start.method.name),
        ("backbones.llm", run.backbones.llm, start.backbones.llm),
        ("backbones.tower", run.backbones.tower, start.backbones.tower),
    ):
        if ours != theirs:
            yield f"{key}: {run.start_from} has {what} {theirs}, this run {ours}"
    if missing := [seed for seed in run.seeds if seed not in start.seeds]:
        yield f"{key}: {missing} are no seeds of run {run.start_from}"


def _line_of_starts(name: str, runs: Mapping[str, RunTemplate]) -> list[str]:
    """Return a run, the one whose adapter it begins with, and so on."""
    found: list[str] = []
    while name in runs and name not in found:
        found.append(name)
        run = runs[name]
        name = run.start_from if run.adapter in ADAPTER_KEYWORDS else run.adapter
    return found
