"""`ademvl compare`: two runs on the same questions, with tests, intervals and what would be needed.

All numbers are rendered in percent or points, as tables print them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ademvl.config.evaluation import Split
from ademvl.config.tasks import facts_of
from ademvl.evaluation.comparison.sides import (
    Side,
    have_same_adapters,
    read_side,
    refuse_other_items,
    right_answers,
)
from ademvl.randomness import derive_seed
from ademvl.statistics.intervals import (
    CONFIDENCE,
    Estimate,
    combine_seeds,
    wilson_interval,
)
from ademvl.statistics.paired import (
    MCNEMAR,
    POWER,
    Difference,
    McNemar,
    mcnemar,
    paired_differences,
    questions_needed,
    seeds_needed,
)
from ademvl.statistics.paired_proportions import accuracy_difference
from ademvl.statistics.percent import in_percent
from ademvl.statistics.seed_spread import UNKNOWN, spread_of
from ademvl.storage.files import write_json
from ademvl.tasks.base import CorpusScores
from ademvl.tasks.registry import task_named


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs on the same items.

    Attributes:
        first, second: the sides.
        scores: of both sides, by column or metric, seeds combined.
        differences: first minus second, by column or metric.
        tests: ScienceQA only: McNemar's test of each pair of seeds, all questions.
        to_see: difference that the needed numbers are for, a fraction; None for the observed one.
        assumed_spread: between seeds of a run that has one, a fraction.
    """

    first: Side
    second: Side
    scores: Mapping[str, tuple[Estimate, Estimate]]
    differences: Mapping[str, Difference]
    tests: tuple[McNemar, ...]
    to_see: float | None
    assumed_spread: float | None

    @property
    def main(self) -> str:
        """Name of the score that the tests and needed numbers are about."""
        return facts_of(self.first.task).main


def compare(
    first: Path,
    second: Path,
    *,
    data_dir: Path | None = None,
    split: Split | None = None,
    to_see: float | None = None,
    assumed_spread: float | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two runs, or files of predictions; see `read_side` for what may be given.

    Raises:
        DataError: the sides cannot be read, or were not asked the same.
    """
    ours, theirs = (read_side(path, data_dir=data_dir, split=split) for path in (first, second))
    if ours.label == theirs.label:
        ours, theirs = replace(ours, label=str(first)), replace(theirs, label=str(second))
    refuse_other_items(ours, theirs)
    return compare_sides(ours, theirs, to_see=to_see, assumed_spread=assumed_spread, seed=seed)


def compare_sides(
    first: Side,
    second: Side,
    *,
    to_see: float | None = None,
    assumed_spread: float | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare two sides that were asked the same; `compare` reads them."""
    sides = (first, second)
    corpus = task_named(first.task).corpus
    if corpus is not None:
        measured = _measure_corpus(corpus, sides, seed=derive_seed(seed, "compare"))
    else:
        measured = _measure_answers(sides)
    scores, differences, tests = measured
    return Comparison(
        first=first,
        second=second,
        scores=scores,
        differences=differences,
        tests=tests,
        to_see=to_see,
        assumed_spread=assumed_spread,
    )


_Measured = tuple[dict[str, tuple[Estimate, Estimate]], dict[str, Difference], tuple[McNemar, ...]]


def _measure_answers(sides: Sequence[Side]) -> _Measured:
    task, answers = task_named(sides[0].task), sides[0].answers.by_id
    correct = [right_answers(side) for side in sides]  # (seeds, n) each
    scores, differences = {}, {}
    same_adapters = have_same_adapters(*sides)
    for column in (column.header for column in task.facts.columns):
        members = np.array([column in task.columns_of(answer) for answer in answers.values()])
        if not members.any():
            continue
        first, second = (
            [wilson_interval(int(right.sum()), len(right)) for right in run[:, members]]
            for run in correct
        )
        scores[column] = _over_seeds(first, second, same_adapters=same_adapters)
        differences[column] = accuracy_difference(
            correct[0][:, members], correct[1][:, members], same_adapters=same_adapters
        )
    tests = []
    if len(correct[0]) == len(correct[1]):
        pairs = zip(*correct, strict=True)
        tests = [mcnemar(first.tolist(), second.tolist()) for first, second in pairs]
    return scores, differences, tuple(tests)


def _over_seeds(
    first: Sequence[Estimate], second: Sequence[Estimate], *, same_adapters: bool
) -> tuple[Estimate, Estimate]:
    """Combine each side's seeds, the other side's spread beside its own.

    `method` names what was done for each seed too.
    """

    def combined(estimates: Sequence[Estimate], others: Sequence[Estimate]) -> Estimate:
        beside = UNKNOWN if same_adapters else spread_of([other.value for other in others])
        found = combine_seeds(estimates, beside)
        if len(estimates) == 1 and not found.covers_seeds:
            return estimates[0]
        return replace(found, method=f"{estimates[0].method}, {found.method}")

    return combined(first, second), combined(second, first)


def _measure_corpus(corpus: CorpusScores, sides: Sequence[Side], *, seed: int) -> _Measured:
    sums = [corpus.item_sums(sides[0].answers.by_id, side.predictions) for side in sides]
    by_side = [[corpus.estimates(values, seed=seed) for values in run] for run in sums]
    same_adapters = have_same_adapters(*sides)
    combined = {
        name: _over_seeds(
            *([found[name] for found in run] for run in by_side), same_adapters=same_adapters
        )
        for name in corpus.names
    }
    found = paired_differences(
        sums[0],
        sums[1],
        partial(corpus.totals, n=len(sums[0][0])),
        seed=seed,
        limits=corpus.limits,
        same_adapters=same_adapters,
    )
    return combined, dict(zip(corpus.names, found, strict=True)), ()


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison as JSON, in percent and points."""
    write_json(path, to_json(comparison))


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Render a comparison, in percent and points."""
    return {
        "first": _side_to_json(comparison.first),
        "second": _side_to_json(comparison.second),
        "task": comparison.first.task,
        "confidence": CONFIDENCE,
        "scores": {
            name: {
                "first": first.as_percent(),
                "second": second.as_percent(),
                "difference": _difference_to_json(comparison, name),
            }
            for name, (first, second) in comparison.scores.items()
        },
        "mcnemar": {
            "method": MCNEMAR,
            "pairs_of_seeds": [
                {
                    "only_first": test.only_first,
                    "only_second": test.only_second,
                    "p_value": test.p_value,
                    "exact_p_value": test.exact_p_value,
                }
                for test in comparison.tests
            ],
        },
    }


def _side_to_json(side: Side) -> dict[str, Any]:
    return {
        "label": side.label,
        "predictions": [str(source) for source in side.sources],
        "num_seeds": len(side.predictions),
    }


def _difference_to_json(comparison: Comparison, name: str) -> dict[str, Any]:
    found = comparison.differences[name]
    needed = needed_numbers(comparison, name)
    points, low, high = in_percent(found)
    return {
        "points": points,
        "ci_low": low,
        "ci_high": high,
        "n": found.n,
        "method": interval_method(comparison, name),
        "seed_spread_points": [s if s is None else 100 * s for s in found.seed_spreads],
        "needed": needed,
    }


def interval_method(comparison: Comparison, name: str) -> str:
    """Return how the interval of a difference was made, in words."""
    corpus = task_named(comparison.first.task).corpus
    return comparison.differences[name].method + (corpus.held_fixed(name) if corpus else "")


def needed_numbers(comparison: Comparison, name: str) -> dict[str, Any] | None:
    """Return how many items and seeds would show the difference; None where there is none.

    A needed number that is null means: no number is enough. `seeds` is absent where the spread
    between seeds is not known.
    """
    found = comparison.differences[name]
    to_see = found.value if comparison.to_see is None else comparison.to_see
    if not to_see:
        return None
    needed: dict[str, Any] = {
        "to_see_points": 100 * to_see,
        "power": POWER,
        "items": questions_needed(found, to_see),
    }
    if comparison.assumed_spread is not None or None not in found.seed_spreads:
        needed["seeds"] = seeds_needed(found, to_see, assumed_spread=comparison.assumed_spread)
    return needed
