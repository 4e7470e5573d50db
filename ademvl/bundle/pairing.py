"""Two trainings of the same run, item by item: how many predictions agree, and a paired test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ademvl.bundle.records import SeedRecord
from ademvl.config.tasks import facts_evaluated_as
from ademvl.errors import ToolError
from ademvl.randomness import derive_seed
from ademvl.statistics.paired import Difference, McNemar, mcnemar, paired_differences
from ademvl.statistics.paired_proportions import accuracy_difference
from ademvl.tasks.base import CorpusScores, Task
from ademvl.tasks.registry import task_named


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A paired comparison of a main score.

    Attributes:
        score: its name.
        difference: first minus second.
        tests: McNemar's of each pair of seeds, where there are as many on both sides; none of
            scores that are no share of right answers.
    """

    score: str
    difference: Difference
    tests: tuple[McNemar, ...]


def count_identical(
    first: Sequence[SeedRecord], second: Sequence[SeedRecord]
) -> tuple[int, int | None]:
    """Count the items that both were asked, and those predicted the same by all common seeds.

    The second number is None where a side has no predictions, or no seed is common.
    """
    ours, theirs = ({s.seed: s for s in side} for side in (first, second))
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    items = _common_items([*first, *second])
    if not items or not pairs:
        return len(items), None
    same = sum(all(a.predictions[i] == b.predictions[i] for a, b in pairs) for i in items)
    return len(items), same


def compare_items(
    first: Sequence[SeedRecord], second: Sequence[SeedRecord], *, seed: int
) -> tuple[Paired | None, str]:
    """Compare the main score of a run on the items that both sides were asked.

    Returns:
        The comparison; or None and the reason why there is none.
    """
    items = _common_items([*first, *second])
    if not all(record.predictions for record in (*first, *second)):
        return None, "a side holds no predictions, and scores alone say nothing item by item"
    if not items:
        return None, "they were not asked a single common item"
    answers, conflicts = _common_answers(first[0].answers, second[0].answers, items)
    if conflicts:
        return None, f"the right answers to {conflicts} of {len(items)} common items differ"
    if len(answers) < len(items):
        return None, "neither side holds the right answers to all common items"
    task = task_named(facts_evaluated_as(first[0].task).name)
    if task.corpus is None:
        return _compare_correct(task, first, second, answers), ""
    try:
        return _compare_corpus(task, task.corpus, first, second, answers, seed=seed), ""
    except ToolError as error:
        what = task.facts.runs_title.lower()
        return None, f"{what} differ, and cannot be scored here: {error}"


def _common_items(records: Sequence[SeedRecord]) -> list[str]:
    """Return the items that all were asked, in the order of the first."""
    return [i for i in records[0].predictions if all(i in r.predictions for r in records)]


def _common_answers(
    first: Mapping[str, Any], second: Mapping[str, Any], items: Sequence[str]
) -> tuple[dict[str, Any], int]:
    """Return the right answers to the items from either side, and how many of them disagree."""
    conflicts = sum(i in first and i in second and first[i] != second[i] for i in items)
    answers = {i: first.get(i, second.get(i)) for i in items if i in first or i in second}
    return answers, conflicts


def _compare_correct(
    task: Task,
    first: Sequence[SeedRecord],
    second: Sequence[SeedRecord],
    answers: Mapping[str, Any],
) -> Paired:
    correct = [
        [
            np.array([task.is_right(found[i], answer) for i, answer in answers.items()])
            for found in _values(task, side)
        ]
        for side in (first, second)
    ]
    difference = accuracy_difference(np.array(correct[0]), np.array(correct[1]))
    pairs = zip(*correct, strict=True) if len(first) == len(second) else ()
    tests = tuple(mcnemar(ours.tolist(), theirs.tolist()) for ours, theirs in pairs)
    return Paired(score="accuracy", difference=difference, tests=tests)


def _compare_corpus(
    task: Task,
    corpus: CorpusScores,
    first: Sequence[SeedRecord],
    second: Sequence[SeedRecord],
    answers: Mapping[str, Any],
    *,
    seed: int,
) -> Paired:
    ours, theirs = (corpus.item_sums(answers, _values(task, side)) for side in (first, second))
    found = paired_differences(
        ours,
        theirs,
        partial(corpus.totals, n=len(ours[0])),
        seed=derive_seed(seed, "compare"),
        limits=corpus.limits,
    )
    score = task.facts.main
    return Paired(score=score, difference=found[list(corpus.names).index(score)], tests=())


def _values(task: Task, side: Sequence[SeedRecord]) -> list[dict[str, Any]]:
    """Return what each seed predicted by item id; empty text where a row says nothing."""
    return [
        {item: row.get(task.value_key, "") for item, row in record.predictions.items()}
        for record in side
    ]
