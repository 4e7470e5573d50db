"""What one setting is worth: a run against the base run that differs in it alone, item by item."""

import logging
from dataclasses import dataclass
from typing import Literal

from ademvl.config.factors import OneFactorRun, one_factor_runs
from ademvl.errors import AdemvlError
from ademvl.evaluation.effects import ItemScores, paired_effect, read_item_scores
from ademvl.evaluation.paired import Difference
from ademvl.randomness import derive_seed
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.table_keys import ABLATIONS

SENSITIVITY_PATHS = ("method.alpha", "method.beta", "method.gamma")
METRICS = {"scienceqa": "AVG", "coco_caption": "CIDEr"}
_SEED = derive_seed(0, "effects")
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
        difference = paired_effect(reader.read(run), reader.read(base), seed=_SEED)
    except AdemvlError as error:
        _log.warning("%s is not compared with %s: %s", run.label, base.label, error)
        return Effect(factor, run, base, None, "cannot be compared, see the log")
    return Effect(factor, run, base, difference)


class _Reader:
    """Reads each run once."""

    def __init__(self) -> None:
        self._read: dict[str, ItemScores] = {}

    def read(self, run: RunResult) -> ItemScores:
        """Return a run's items; raises AdemvlError where they cannot be read or do not fit."""
        if run.name not in self._read:
            self._read[run.name] = read_item_scores(run.seeds[0].run_dir.parent)
        return self._read[run.name]
