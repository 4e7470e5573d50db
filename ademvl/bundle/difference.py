"""What differs between two sets of results, and whether it matters.

Settings, code, data, packages and hardware are compared first, then each run that both have: its
predictions item by item, and its main score by a paired test on the items that both were asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ademvl.bundle.pairing import Paired, compare_items, count_identical
from ademvl.bundle.records import Results, SeedRecord
from ademvl.config.tasks import facts_evaluated_as

Verdict = Literal["same", "rounding", "indistinguishable", "different", "not comparable"]
MATTERS: tuple[Verdict, ...] = ("different", "not comparable")
"""Verdicts that make the results differ in a way that matters."""

_SCORE_PARTS = ("columns", "metrics", "tasks", "sums")
ABSENT = "-"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that differs: its name and both values, `-` where it is absent."""

    name: str
    first: Any
    second: Any


@dataclass(frozen=True, kw_only=True)
class RunDifference:
    """A run that both sides have.

    Attributes:
        run: its name.
        verdict: `same`: every prediction and score; `rounding`: the same settings, seeds, data and
            weights, and no significant difference; `indistinguishable`: other settings, and no
            significant difference; `different`: the 95 % interval of the difference excludes 0,
            with one seed that of these adapters, or the scores of a side do not follow from its
            predictions; `not comparable`: `reason` says why.
        reason: in words.
        settings: that differ, with a value each.
        inputs: checksums of data and weights that differ.
        seeds: of both sides.
        num_items: that both sides were asked.
        num_identical: of them predicted the same by every seed that both have; None without
            predictions.
        scores: of both sides, mean over seeds, by their names and in their units in score files.
        paired: the comparison of the main score; None without predictions and right answers.
    """

    run: str
    verdict: Verdict
    reason: str
    settings: tuple[Change, ...]
    inputs: tuple[Change, ...]
    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    num_items: int = 0
    num_identical: int | None = None
    scores: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    paired: Paired | None = None


@dataclass(frozen=True, kw_only=True)
class ResultsDifference:
    """Everything that differs between two sets of results.

    Attributes:
        labels: of both sides.
        environment: code, Python, packages and hardware that differ.
        runs: that both sides have.
        only_first, only_second: runs that one side alone has finished.
        tables: by file name: `same`, `differs`, or the side that alone has it.
    """

    labels: tuple[str, str]
    environment: tuple[Change, ...]
    runs: tuple[RunDifference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    tables: Mapping[str, str]

    @property
    def matters(self) -> bool:
        """Whether any run differs in a way that matters, or is finished on one side only."""
        differs = any(run.verdict in MATTERS for run in self.runs)
        return differs or bool(self.only_first or self.only_second)

    @property
    def is_same(self) -> bool:
        """Whether all predictions and scores are the same."""
        return not self.matters and all(run.verdict == "same" for run in self.runs)


def compare_results(first: Results, second: Results, *, seed: int = 0) -> ResultsDifference:
    """Compare two sets of results.

    Args:
        first: as read from a bundle or results folder.
        second: the same of the other side.
        seed: of the resamples.

    Raises:
        DataError: a file of one side is malformed.
    """
    common = [run for run in first.runs if run in second.runs]
    return ResultsDifference(
        labels=(first.label, second.label),
        environment=tuple(_changes(_environment(first), _environment(second))),
        runs=tuple(
            _with_doubts(_compare_run(first.runs[run], second.runs[run], seed=seed), first, second)
            for run in common
        ),
        only_first=tuple(run for run in first.runs if run not in second.runs),
        only_second=tuple(run for run in second.runs if run not in first.runs),
        tables=_compare_tables(first.tables, second.tables),
    )


def _compare_run(
    first: Sequence[SeedRecord], second: Sequence[SeedRecord], *, seed: int
) -> RunDifference:
    settings = tuple(_changes(first[0].settings, second[0].settings))
    inputs = tuple(_changes(_inputs(first), _inputs(second)))
    seeds = tuple(s.seed for s in first), tuple(s.seed for s in second)
    num_items, num_identical = count_identical(first, second)
    paired, verdict, reason = None, _verdict_without_test(first, second), ""
    if verdict is None:
        paired, reason = compare_items(first, second, seed=seed)
        is_same_experiment = not settings and not inputs and seeds[0] == seeds[1]
        verdict = _judge(paired, is_same_experiment=is_same_experiment)
    return RunDifference(
        run=first[0].run,
        verdict=verdict,
        reason=reason or _explain(verdict, first[0], second[0], paired),
        settings=settings,
        inputs=inputs,
        seeds=seeds,
        num_items=num_items,
        num_identical=num_identical,
        scores=_main_scores(first, second),
        paired=paired,
    )


def _with_doubts(run: RunDifference, first: Results, second: Results) -> RunDifference:
    """Call a run different where a side's scores are not those of its predictions."""
    doubtful = [
        side.label for side in (first, second) if any(s.is_doubtful for s in side.runs[run.run])
    ]
    if not doubtful:
        return run
    sides = " and ".join(doubtful)
    reason = f"the scores of {sides} do not follow from the predictions beside them"
    if run.num_items and run.num_identical == run.num_items:
        reason = f"the scores differ, the predictions are the same: {reason}"
    return replace(run, verdict="different", reason=reason)


def _verdict_without_test(
    first: Sequence[SeedRecord], second: Sequence[SeedRecord]
) -> Verdict | None:
    if first[0].task != second[0].task:
        return "not comparable"
    return "same" if _are_same(first, second) else None


def _judge(paired: Paired | None, *, is_same_experiment: bool) -> Verdict:
    if paired is None:
        return "not comparable"
    if paired.difference.ci_low > 0 or paired.difference.ci_high < 0:
        return "different"
    return "rounding" if is_same_experiment else "indistinguishable"


def _explain(verdict: Verdict, first: SeedRecord, second: SeedRecord, paired: Paired | None) -> str:
    if paired is None:
        tasks = f"one is {first.task}, the other {second.task}"
        return "every prediction and score" if verdict == "same" else tasks
    if verdict == "different":
        excludes = f"the 95 % interval of the difference in {paired.score} excludes 0"
        if paired.difference.is_spread_known:
            return excludes
        few = "one seed says" if min(paired.difference.num_seeds) == 1 else "so few seeds say"
        return f"{excludes}: these adapters differ; {few} nothing about the settings"
    if verdict == "rounding":
        return "the same experiment, and no significant difference"
    return f"other settings, data or seeds, but no significant difference in {paired.score}"


def _are_same(first: Sequence[SeedRecord], second: Sequence[SeedRecord]) -> bool:
    """Whether both sides have the same seeds with the same predictions and scores."""
    return len(first) == len(second) and all(
        ours.seed == theirs.seed
        and ours.predictions == theirs.predictions
        and all(ours.scores.get(part) == theirs.scores.get(part) for part in _SCORE_PARTS)
        for ours, theirs in zip(first, second, strict=True)
    )


def _main_scores(
    first: Sequence[SeedRecord], second: Sequence[SeedRecord]
) -> dict[str, tuple[float | None, float | None]]:
    sides = [_mean_scores(side) for side in (first, second)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return {name: (sides[0].get(name), sides[1].get(name)) for name in names}


def _mean_scores(seeds: Sequence[SeedRecord]) -> dict[str, float]:
    """Return the mean over seeds of each score, by its name and in its unit in score files."""
    facts = facts_evaluated_as(seeds[0].task)
    values_of: dict[str, list[float]] = {}
    for seed in seeds:
        for name, entry in (seed.scores.get(facts.scores_in) or {}).items():
            value = entry.get(facts.scores_unit) if isinstance(entry, Mapping) else None
            if isinstance(value, int | float):
                values_of.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in values_of.items()}


def _environment(results: Results) -> dict[str, Any]:
    """Return what trainings were made with; several values where trainings differ in it."""
    found: dict[str, set[str]] = {}
    for seed in (seed for seeds in results.runs.values() for seed in seeds):
        provenance = seed.provenance
        code, hardware = provenance.get("code") or {}, provenance.get("hardware") or {}
        values = {f"code.{key}": value for key, value in code.items()}
        values |= {"python": provenance.get("python"), "device": provenance.get("device")}
        values |= {f"packages.{k}": v for k, v in (provenance.get("packages") or {}).items()}
        values |= {f"hardware.{k}": hardware.get(k) for k in ("cpu", "gpus", "system")}
        for name, value in values.items():
            if value is not None:
                found.setdefault(name, set()).add(_text(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _inputs(seeds: Sequence[SeedRecord]) -> Mapping[str, Any]:
    checksums: Mapping[str, Any] = seeds[0].provenance.get("checksums") or {}
    return checksums


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
    return [
        Change(name=name, first=first.get(name, ABSENT), second=second.get(name, ABSENT))
        for name in dict.fromkeys([*first, *second])
        if first.get(name, ABSENT) != second.get(name, ABSENT)
    ]


def _compare_tables(first: Mapping[str, bytes], second: Mapping[str, bytes]) -> dict[str, str]:
    found = {}
    for name in sorted({*first, *second}):
        if name in first and name in second:
            found[name] = "same" if first[name] == second[name] else "differs"
        else:
            found[name] = "only in the first" if name in first else "only in the second"
    return found
