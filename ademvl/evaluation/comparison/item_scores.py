"""Predictions of a run as numbers, item by item, and the paired difference of two runs' scores.

All values are fractions, as in `paired`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ademvl.errors import DataError
from ademvl.evaluation.captions.scores import METRICS, caption_item_sums, corpus_scores
from ademvl.evaluation.comparison.sides import Side, read_seeds, refuse_other_items
from ademvl.statistics.intervals import Floats
from ademvl.statistics.paired import Difference, paired_differences


@dataclass(frozen=True)
class ItemScores:
    """A run's predictions as numbers, by seed.

    Attributes:
        side: as it was read.
        values: by name of the seed's folder, what each item contributes, (n, k).
        statistic: of sums over items, as `paired_differences` takes it.
        place: of the main score among those that `statistic` gives.
    """

    side: Side
    values: Mapping[str, Floats]
    statistic: Callable[[Floats], Floats]
    place: int

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
    if side.task == "coco_caption":
        values = [
            caption_item_sums(side.references, {int(i): str(text) for i, text in found.items()})
            for found in side.predictions
        ]
        statistic: Callable[[Floats], Floats] = partial(corpus_scores, n=len(side.references))
        place = METRICS.index("CIDEr")
    else:
        values = [
            np.array([[float(found[p.question_id] == p.answer_index)] for p in side.problems])
            for found in side.predictions
        ]
        statistic, place = partial(_mean, n=len(side.problems)), 0
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


def paired_effect(run: ItemScores, base: ItemScores, *, seed: int) -> Difference:
    """Return the difference of the main score, run minus base, on the seeds that both have.

    Raises:
        DataError: see `common_seeds`.
    """
    seeds = common_seeds(run, base)
    first, second = ([side.values[name] for name in seeds] for side in (run, base))
    ours, theirs = (dict(zip(s.values, s.side.adapters, strict=True)) for s in (run, base))
    same_adapters = all(ours[name] and ours[name] == theirs[name] for name in seeds)
    found = paired_differences(first, second, run.statistic, seed=seed, same_adapters=same_adapters)
    return found[run.place]
