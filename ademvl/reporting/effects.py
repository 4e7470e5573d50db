"""What one setting is worth: a run against the base run that differs in it alone, item by item."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ademvl.config.factors import OneFactorRun, one_factor_runs
from ademvl.errors import AdemvlError
from ademvl.evaluation.comparison_inputs import Side, read_side, refuse_other_items
from ademvl.evaluation.paired import Difference, paired_differences
from ademvl.evaluation.statistics import Floats
from ademvl.randomness import derive_seed
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.table_keys import ABLATIONS

SENSITIVITY_PATHS = ("method.alpha", "method.beta", "method.gamma")
METRICS = {"scienceqa": "AVG", "coco_caption": "CIDEr"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Effect:
    """How much better a run scores than its base.

    Attributes:
        factor: the setting, and both runs' names.
        run, base: what is compared.
        difference: run minus base, paired; None where it is not known yet.
        state: why not, such as `not run`.
    """

    factor: OneFactorRun
    run: RunResult
    base: RunResult
    difference: Difference | None
    state: str = ""

    @property
    def task(self) -> Literal["scienceqa", "coco_caption"]:
        """Task of both runs."""
        return "coco_caption" if self.run.settings.task == "coco_caption" else "scienceqa"


def quirk_factors(results: StudyResults) -> list[OneFactorRun]:
    """Return the study's one-factor runs that no other figure is about."""
    tasks = {run.name: run.settings.task for run in results.runs}
    return [
        factor
        for factor in one_factor_runs(results.study)
        if factor.path not in SENSITIVITY_PATHS
        and tasks[factor.run] in METRICS
        and not any(r.table in ABLATIONS for r in results.study.reported(factor.run))
    ]


def quirk_effects(results: StudyResults) -> list[Effect]:
    """Compare each of these runs with its base, on the same items.

    A pair that cannot be compared, for example because its data is gone, says so in `state`.
    """
    by_name = {run.name: run for run in results.runs}
    reader = _Reader()
    return [_effect(factor, by_name, reader) for factor in quirk_factors(results)]


def _effect(factor: OneFactorRun, by_name: dict[str, RunResult], reader: "_Reader") -> Effect:
    run, base = by_name[factor.run], by_name[factor.base]
    for side, name in ((run, ""), (base, "base run ")):
        if not side.finished:
            return Effect(factor, run, base, None, f"{name}{side.state}")
        if any(seed.state in ("stale", "failed") for seed in side.seeds):
            return Effect(factor, run, base, None, f"{name}with stale or failed seeds")
    try:
        ours, theirs = reader.read(run), reader.read(base)
        refuse_other_items(ours.side, theirs.side)
    except AdemvlError as error:
        _log.warning("%s is not compared with %s: %s", run.label, base.label, error)
        return Effect(factor, run, base, None, "cannot be compared, see the log")
    differences = paired_differences(
        ours.values, theirs.values, ours.statistic, seed=derive_seed(0, "effects")
    )
    return Effect(factor, run, base, differences[ours.place])


@dataclass(frozen=True)
class _Items:
    """A run's predictions as numbers.

    Attributes:
        side: as it was read.
        values: for each seed what each item contributes, (n, k).
        statistic: of sums over items, as `paired_differences` takes it.
        place: of the main score among those that `statistic` gives.
    """

    side: Side
    values: tuple[Floats, ...]
    statistic: Callable[[Floats], Floats]
    place: int


class _Reader:
    """Reads each run once."""

    def __init__(self) -> None:
        self._read: dict[str, _Items] = {}

    def read(self, run: RunResult) -> _Items:
        """Return a run's items; raises AdemvlError where they cannot be read or do not fit."""
        if run.name not in self._read:
            side = read_side(run.seeds[0].run_dir.parent)
            build = _caption_items if side.task == "coco_caption" else _answer_items
            self._read[run.name] = build(side)
        return self._read[run.name]


def _answer_items(side: Side) -> _Items:
    values = tuple(
        np.array([[float(found[p.question_id] == p.answer_index)] for p in side.problems])
        for found in side.predictions
    )
    return _Items(side, values, partial(_mean, n=len(side.problems)), 0)


def _mean(sums: Floats, *, n: int) -> Floats:
    return sums / n


def _caption_items(side: Side) -> _Items:
    from ademvl.evaluation.captions import METRICS as CAPTION_METRICS
    from ademvl.evaluation.captions import caption_item_sums, corpus_scores

    values = tuple(
        caption_item_sums(side.references, {int(i): text for i, text in found.items()})
        for found in side.predictions
    )
    statistic = partial(corpus_scores, n=len(side.references))
    return _Items(side, values, statistic, list(CAPTION_METRICS).index(METRICS["coco_caption"]))
