"""Renders what differs between two sets of results, as text and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ademvl.bundle.difference import MATTERS, Change, ResultsDifference, RunDifference
from ademvl.config.tasks import all_facts
from ademvl.reporting.printable import printable
from ademvl.statistics.intervals import ITEMS_NOTE
from ademvl.statistics.percent import in_percent, printed

_SHOWN = 10
_CHECKSUM_CHARACTERS = 20


def render(found: ResultsDifference) -> str:
    """Render as text: the verdict first, then each run, then what else differs."""
    lines = [_headline(found), ""]
    for run in found.runs:
        lines += _run_lines(run)
    if any(run.paired and not run.paired.difference.covers_seeds for run in found.runs):
        lines.append(ITEMS_NOTE)
    for names, label in zip((found.only_first, found.only_second), found.labels, strict=True):
        if names:
            lines.append(f"finished only in {printable(label)}: {', '.join(names)}")
    lines += _section("code, packages and hardware that differ", found.environment)
    differing = [f"{name}: {state}" for name, state in found.tables.items() if state != "same"]
    if differing:
        lines += ["", f"tables ({len(found.tables) - len(differing)} the same)"]
        lines += [f"  {text}" for text in differing]
    return "\n".join(lines) + "\n"


def _headline(found: ResultsDifference) -> str:
    first, second = map(printable, found.labels)
    if found.is_same:
        return f"{first} and {second}: the same results"
    if not found.matters:
        return f"{first} and {second}: no difference that matters"
    runs = [run.run for run in found.runs if run.verdict in MATTERS]
    runs += [*found.only_first, *found.only_second]
    return f"{first} and {second} differ: {', '.join(runs)}"


def _run_lines(run: RunDifference) -> Iterator[str]:
    yield f"{run.run}: {run.verdict} ({printable(run.reason)})"
    if run.verdict == "same":
        return
    if run.num_identical is not None and run.num_items:
        share = 100 * run.num_identical / run.num_items
        yield f"  predictions: {run.num_identical} of {run.num_items} the same ({share:.2f} %)"
    for name in (name for facts in all_facts().values() for name in facts.stored_headlines):
        if name in run.scores:
            values = " and ".join("-" if v is None else f"{v:.2f}" for v in run.scores[name])
            yield f"  {name}: {values}"
    if run.paired:
        difference = run.paired.difference
        points, interval = printed(difference)
        yield (
            f"  {run.paired.score}: {points} points {interval}, "
            f"n = {difference.n}, {difference.num_seeds[0]} and {difference.num_seeds[1]} seeds"
        )
        if run.paired.tests:
            values = ", ".join(f"{test.p_value:.3g}" for test in run.paired.tests)
            yield f"  McNemar's test of each pair of seeds: p = {values}"
    if run.seeds[0] != run.seeds[1]:
        yield f"  seeds: {_numbers(run.seeds[0])} and {_numbers(run.seeds[1])}"
    yield from _section("settings", run.settings, indent="  ")
    yield from _section("data and weights", run.inputs, indent="  ")


def _numbers(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _section(title: str, changes: Sequence[Change], *, indent: str = "") -> list[str]:
    if not changes:
        return []
    lines = [f"{indent}{title}"] if indent else ["", title]
    for change in changes[:_SHOWN]:
        lines.append(f"{indent}  {change.name}: {_short(change.first)} -> {_short(change.second)}")
    if len(changes) > _SHOWN:
        lines.append(f"{indent}  ... and {len(changes) - _SHOWN} more (--json lists all)")
    return lines


def _short(value: Any) -> str:
    text = printable(str(value))
    return f"{text[:_CHECKSUM_CHARACTERS]}..." if "sha256:" in text else text


def to_json(found: ResultsDifference) -> dict[str, Any]:
    """Render for JSON; scores as in score files, paired differences in points."""
    return {
        "first": found.labels[0],
        "second": found.labels[1],
        "is_same": found.is_same,
        "matters": found.matters,
        "environment": _changes(found.environment),
        "only_first": list(found.only_first),
        "only_second": list(found.only_second),
        "tables": dict(found.tables),
        "runs": {run.run: _run(run) for run in found.runs},
    }


def _run(run: RunDifference) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "verdict": run.verdict,
        "reason": run.reason,
        "settings": _changes(run.settings),
        "data_and_weights": _changes(run.inputs),
        "seeds": [list(seeds) for seeds in run.seeds],
        "num_items": run.num_items,
        "num_identical": run.num_identical,
        "scores": {name: list(values) for name, values in run.scores.items()},
    }
    if run.paired:
        difference = run.paired.difference
        points, low, high = in_percent(difference)
        rendered["paired"] = {
            "score": run.paired.score,
            "points": points,
            "ci_low": low,
            "ci_high": high,
            "n": difference.n,
            "method": difference.method,
            "mcnemar": [asdict(test) for test in run.paired.tests],
        }
    return rendered


def _changes(changes: Sequence[Change]) -> dict[str, list[Any]]:
    return {change.name: [change.first, change.second] for change in changes}
