"""Predictions of a run as numbers, item by item, and the paired difference of two runs' scores.

All values are fractions, as in `paired`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ademvl.errors import DataError
from ademvl.evaluation.comparison.sides import (
    Side,
    have_same_adapters,
    read_seeds,
    refuse_other_items,
    right_answers,
)
from ademvl.statistics.intervals import Floats
from ademvl.statistics.paired import Difference, paired_differences
from ademvl.statistics.paired_proportions import Correct, accuracy_difference
from ademvl.statistics.seed_spread import UNKNOWN, Spread
from ademvl.tasks.registry import task_named


@dataclass(frozen=True)
class ItemScores:
    """A run's predictions as numbers, by seed.

    Attributes:
        side: predictions, questions and adapters as they were read.
        values: by name of the seed's folder, what each item contributes, (n, k).
        statistic: of sums over items, as `paired_differences` takes it.
        place: of the main score among those that `statistic` gives.
    """

    side: Side
    values: Mapping[str, Floats]
    statistic: Callable[[Floats], Floats]
    place: int

    def of_seeds(self, seeds: Sequence[str]) -> "ItemScores":
        """Return these seeds alone, in this order."""
        places = [list(self.values).index(seed) for seed in seeds]
        side = self.side
        chosen = replace(
            side,
            sources=tuple(side.sources[place] for place in places),
            adapters=tuple(side.adapters[place] for place in places),
            predictions=tuple(side.predictions[place] for place in places),
        )
        return replace(self, side=chosen, values={seed: self.values[seed] for seed in seeds})

    def right_answers(self) -> Correct:
        """Return whether questions are answered right, (seeds, n)."""
        return np.array([values[:, 0] > 0 for values in self.values.values()])

    def score(self, seed: str) -> float:
        """Return the main score of one seed."""
        return float(self.statistic(self.values[seed].sum(axis=0, keepdims=True))[0, self.place])


def read_item_scores(run_dirs: Sequence[Path]) -> ItemScores:
    """Read a run's predictions, of these seeds.

    Args:
        run_dirs: directories of the run and each seed, at least one.

    Raises:
        DataError: see `read_seeds`.
        ToolError: captions cannot be tokenized.
    """
    side = read_seeds(run_dirs)
    seeds = [source.parent.parent.name for source in side.sources]
    task, answers = task_named(side.task), side.answers.by_id
    if task.corpus is not None:
        values = task.corpus.item_sums(answers, side.predictions)
        n, names = len(values[0]), task.corpus.names
        statistic: Callable[[Floats], Floats] = partial(task.corpus.totals, n=n)
        place = names.index(task.facts.main)
    else:
        values = list(right_answers(side).astype(np.float64)[:, :, None])
        statistic, place = partial(_mean, n=len(answers)), 0
    return ItemScores(side, dict(zip(seeds, values, strict=True)), statistic, place)


def _mean(sums: Floats, *, n: int) -> Floats:
    return sums / n


def common_seeds(run: ItemScores, base: ItemScores) -> list[str]:
    """Return the seeds that both have, by folder: training's own chance is paired where it can be.

    Raises:
        DataError: they were not asked the same, or have no seed in common.
    """
    refuse_other_items(run.side, base.side)
    common = [seed for seed in run.values if seed in base.values]
    if not common:
        raise DataError(f"{run.side.label} and {base.side.label} have no seed in common")
    return common


def paired_effect(
    run: ItemScores, base: ItemScores, *, seed: int, others: Spread = UNKNOWN
) -> Difference:
    """Return the difference of the main score, run minus base, on the seeds that both have.

    Args:
        run: first of the difference.
        base: second of the difference.
        seed: of the resamples.
        others: spread of the main score between seeds of the study's other rows.

    Raises:
        DataError: see `common_seeds`.
    """
    seeds = common_seeds(run, base)
    ours, theirs = run.of_seeds(seeds), base.of_seeds(seeds)
    task = task_named(run.side.task)
    if task.corpus is None:
        return accuracy_in(ours, theirs, task.facts.main, others=others)
    found = paired_differences(
        list(ours.values.values()),
        list(theirs.values.values()),
        run.statistic,
        seed=seed,
        limits=task.corpus.limits,
        same_adapters=have_same_adapters(ours.side, theirs.side),
        others=[
            others if place == run.place else UNKNOWN for place in range(len(task.corpus.names))
        ],
    )
    return found[run.place]


def accuracy_in(
    run: ItemScores, base: ItemScores, column: str, *, others: Spread = UNKNOWN
) -> Difference:
    """Return the difference of accuracies in a column of scores, run minus base, all seeds.

    Args:
        run: first of the difference.
        base: second of the difference.
        column: of the task's scores.
        others: spread of the column between seeds of the study's other rows.

    Raises:
        DataError: they were not asked the same, or nothing that belongs to the column.
    """
    refuse_other_items(run.side, base.side)
    task, answers = task_named(run.side.task), run.side.answers.by_id
    members = [column in task.columns_of(answer) for answer in answers.values()]
    if not any(members):
        raise DataError(f"{run.side.label} was asked nothing that belongs to {column}")
    first, second = (side.right_answers()[:, members] for side in (run, base))
    same_adapters = have_same_adapters(run.side, base.side)
    return accuracy_difference(first, second, same_adapters=same_adapters, others=others)
