"""Reads the numbers of a score file, and names those that cannot be."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ademvl.config.task_facts import TaskFacts
from ademvl.config.tasks import largest_score
from ademvl.errors import DataError
from ademvl.runs.run_state import REMEDY
from ademvl.statistics.intervals import WILSON, Estimate

_ENDS = ("ci_low", "ci_high")
_ROUNDING = 1e-9


def object_at(raw: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    """Return an object in a file's content; empty where it is null or absent.

    Raises:
        DataError: something else stands there.
    """
    found = raw.get(key)
    if not isinstance(found, dict | None):
        kind = type(found).__name__
        raise DataError(f"{path}: {key}: expected an object, found {kind}. {REMEDY}")
    return found or {}


def read_estimates(
    raw: Mapping[str, Any], path: Path, facts: TaskFacts | None
) -> dict[str, Estimate]:
    """Read each column's estimate from a score file; a column without items is left out.

    Args:
        facts: of the task that was scored; None for what lmms-eval measured.

    Raises:
        DataError: a column lacks a number.
    """
    estimates = {}
    for column, entry, unit in _entries(raw, path, facts):
        try:
            value, low, high = (float(entry[key]) / 100 for key in (unit, *_ENDS))
            estimates[column] = Estimate(
                value=value, ci_low=low, ci_high=high, n=int(entry["n"]), method=entry["method"]
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: column {column} is malformed ({error}). {REMEDY}") from error
    return estimates


def impossible_numbers(raw: Mapping[str, Any], path: Path, facts: TaskFacts | None) -> list[str]:
    """Name the numbers of a score file that no scoring can give; columns that lack one as well.

    Args:
        facts: see `read_estimates`.
    """
    return [
        f"{column}: {finding}"
        for column, entry, unit in _entries(raw, path, facts)
        for finding in _impossible(entry, unit, largest_score(column))
    ]


def _entries(
    raw: Mapping[str, Any], path: Path, facts: TaskFacts | None
) -> Iterator[tuple[str, Any, str]]:
    """Yield column, entry and the key of its value: in percent, or in points."""
    place, unit = (facts.scores_in, facts.scores_unit) if facts else ("columns", "percent")
    found = object_at(raw, place, path)
    stored = {c.header: c.stored_as for c in facts.columns if c.stored_as} if facts else {}
    if stored:
        found = {header: found.get(key) for header, key in stored.items()}
    for column, entry in found.items():
        if not (entry is None or (isinstance(entry, dict) and entry.get("n") == 0)):
            yield str(column), entry, unit


def _impossible(entry: Any, unit: str, largest: float) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"is {entry!r}, not an object"
        return
    n, numbers = entry.get("n"), list[float]()
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        yield f"n is {n!r}, not a count"
    for key in (unit, *_ENDS):
        number = entry.get(key)
        if not isinstance(number, int | float) or isinstance(number, bool):
            yield f"{key} is {number!r}, not a number"
        elif isinstance(number, float) and not math.isfinite(number):
            yield f"{key} is {number}"
        elif not -_ROUNDING <= number <= largest + _ROUNDING:
            yield f"{key} is {number}, outside 0 to {largest:g}"
        else:
            numbers.append(number)
    if len(numbers) < 1 + len(_ENDS):
        return
    value, low, high = numbers
    if low > high:
        yield f"ci_low {low} is above ci_high {high}"
    elif entry.get("method") == WILSON and not low - _ROUNDING <= value <= high + _ROUNDING:
        yield f"{unit} {value} is outside its interval, {low} to {high}"
