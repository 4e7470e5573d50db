"""What one setting is worth: a run against the base run that differs in it alone, item by item.

Scores are fractions; the table has percent and points.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ademvl.config.factors import OneFactorRun, one_factor_runs
from ademvl.config.tasks import facts_of
from ademvl.errors import AdemvlError
from ademvl.evaluation.comparison.item_scores import (
    ItemScores,
    common_seeds,
    paired_effect,
    read_item_scores,
)
from ademvl.randomness import derive_seed
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.keys import ABLATIONS
from ademvl.statistics.effect_verdict import MARGIN, judge_effect
from ademvl.statistics.paired import Difference, seeds_needed
from ademvl.statistics.percent import printed
from ademvl.statistics.seed_spread import Spread

SENSITIVITY_PATHS = ("method.alpha", "method.beta", "method.gamma")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How much better a run scores than its base.

    Attributes:
        factor: the setting, and both runs' names.
        run, base: the run with the setting, and the one without, both of the study.
        difference: run minus base, on the same items; None where it is not known yet.
        state: why not, such as `not run`.
        value, base_value: of the main score, mean over common seeds.
        seed_differences: run minus base, of each common seed.
        same_fraction: of predictions that are the same in run and base.
    """

    factor: OneFactorRun
    run: RunResult
    base: RunResult
    difference: Difference | None = None
    state: str = ""
    value: float = 0.0
    base_value: float = 0.0
    seed_differences: tuple[float, ...] = ()
    same_fraction: float = 0.0

    @property
    def task(self) -> str:
        """Task of both runs."""
        return self.run.settings.task


def quirk_factors(results: StudyResults) -> list[OneFactorRun]:
    """Return the study's one-factor runs that no other figure is about."""
    return [
        factor
        for factor in one_factor_runs(results.study)
        if factor.path not in SENSITIVITY_PATHS
        and not any(r.table in ABLATIONS for r in results.study.reported(factor.run))
    ]


def measure_effects(
    results: StudyResults, factors: Sequence[OneFactorRun], *, seed: int = 0
) -> list[Effect]:
    """Compare each of these runs with its base, on the same items and by their finished seeds.

    A pair that cannot be compared, for example because its data is gone, says so in `state`.

    Args:
        results: of the study; predictions are read from its runs' folders.
        factors: of the study, see `one_factor_runs`.
        seed: decides the bootstrap's resamples, of captions alone.
    """
    by_name = {run.name: run for run in results.runs}
    known: dict[str, ItemScores] = {}

    def read(run: RunResult) -> ItemScores:
        if run.name not in known:
            known[run.name] = read_item_scores([found.run_dir for found in run.finished])
        return known[run.name]

    def measure(factor: OneFactorRun) -> Effect:
        run, base = by_name[factor.run], by_name[factor.base]
        effect = Effect(factor=factor, run=run, base=base)
        for side, name in ((run, ""), (base, "base run ")):
            if not side.finished:
                return replace(effect, state=f"{name}{side.state}")
        try:
            others = results.spread_beside(facts_of(effect.task).main, run, base)
            return _compared(effect, read(run), read(base), seed, others)
        except AdemvlError as error:
            _log.warning("%s is not compared with %s: %s", run.label, base.label, error)
            return replace(effect, state="cannot be compared, see the log")

    return [measure(factor) for factor in factors]


def _compared(
    effect: Effect, run: ItemScores, base: ItemScores, seed: int, others: Spread
) -> Effect:
    difference = paired_effect(run, base, seed=derive_seed(seed, "compare"), others=others)
    seeds = common_seeds(run, base)
    return replace(
        effect,
        difference=difference,
        value=float(np.mean([run.score(name) for name in seeds])),
        base_value=float(np.mean([base.score(name) for name in seeds])),
        seed_differences=tuple(run.score(name) - base.score(name) for name in seeds),
        same_fraction=_same_fraction(run, base, seeds),
    )


def _same_fraction(run: ItemScores, base: ItemScores, seeds: Sequence[str]) -> float:
    ours, theirs = (
        dict(zip(side.values, side.side.predictions, strict=True)) for side in (run, base)
    )
    items = run.side.item_ids
    same = [ours[seed][item] == theirs[seed][item] for seed in seeds for item in items]
    return sum(same) / len(same)


def effects_table(effects: Sequence[Effect]) -> str:
    """Render effects in Markdown, in percent and points.

    A direction is named only where it is beyond seeds. Where nothing can be told stands how many
    seeds of each run would show what was measured, or the margin where that is less.
    """
    lines = [
        "| setting | base run | with it | base | difference in points | verdict | seeds needed "
        "| same answers | n | seeds |",
        "|---|---|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {' | '.join(_cells(effect))} |" for effect in effects]
    return "\n".join(lines) + "\n"


def _cells(effect: Effect) -> list[str]:
    factor, found = effect.factor, effect.difference
    path, _, values = factor.label.partition(": ")
    cells = [f"`{path}`: {values}", factor.base]
    if found is None:
        return [*cells, *["–"] * 8]
    return [
        *cells,
        f"{100 * effect.value:.2f}",
        f"{100 * effect.base_value:.2f}",
        " ".join(printed(found)),
        direction(found),
        seeds_in_words(found),
        f"{100 * effect.same_fraction:.1f} %",
        f"{found.n:,}",
        str(found.num_seeds[0]),
    ]


def direction(difference: Difference) -> str:
    """Say which way a setting moves the score where that is beyond seeds, or why it is not told."""
    verdict = judge_effect(difference)
    if verdict.outcome != "seen":
        return verdict.words
    return "higher" if difference.value > 0 else "lower"


def seeds_in_words(difference: Difference) -> str:
    """Say how many seeds of each run would tell what cannot be told; empty where it can be."""
    if judge_effect(difference).outcome != "cannot tell":
        return ""
    if not difference.covers_seeds:
        return "not known"
    needed = seeds_needed(difference, max(abs(difference.value), MARGIN))
    return "more questions" if needed is None else str(needed)
