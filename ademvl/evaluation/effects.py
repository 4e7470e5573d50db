"""The effect of one setting: each run of a study against the base run that it differs from in it.

All values are fractions, as in `paired`; the table has percent and points.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ademvl.config.factors import OneFactorRun, one_factor_runs
from ademvl.config.study import Study, read_run
from ademvl.errors import AdemvlError, DataError
from ademvl.evaluation.captions import METRICS, caption_item_sums, corpus_scores
from ademvl.evaluation.comparison_inputs import Side, read_side, refuse_other_items
from ademvl.evaluation.paired import Difference, paired_differences
from ademvl.evaluation.statistics import Floats
from ademvl.randomness import derive_seed

Predictions = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What changing one setting did.

    Attributes:
        factor: run, base and setting.
        score: `accuracy` of all questions, or `CIDEr`.
        value, base_value: of the score, mean over seeds.
        difference: run minus base, on the same items; None where there is none.
        reason: why there is no difference; empty where there is one.
        num_same: predictions that are the same in run and base, of those of all common seeds.
        num_pairs: those predictions.
    """

    factor: OneFactorRun
    score: str = ""
    value: float = 0.0
    base_value: float = 0.0
    difference: Difference | None = None
    reason: str = ""
    num_same: int = 0
    num_pairs: int = 0


def measure_effects(study: Study, *, seed: int = 0) -> tuple[Effect, ...]:
    """Measure the effects of a study's `base_runs`, from the predictions that are there.

    Run and base are compared on the seeds that both have, so that training's own chance is paired
    as far as it can be.

    Args:
        study: with `base_runs`; without any there are no effects.
        seed: of the resamples.
    """
    sides: dict[str, Side | str] = {}
    return tuple(
        _measure(factor, _side(study, factor.run, sides), _side(study, factor.base, sides), seed)
        for factor in one_factor_runs(study)
    )


def _side(study: Study, run: str, known: dict[str, Side | str]) -> Side | str:
    """Read a run's predictions once; text says why they cannot be read."""
    if run not in known:
        try:
            known[run] = _read(study, run)
        except AdemvlError as error:
            known[run] = str(error)
    return known[run]


def _read(study: Study, name: str) -> Side:
    for run in study.runs:
        run_dir = study.run_dir(run)
        if run.name == name and (run_dir / "run.yaml").is_file() and read_run(run_dir) != run:
            raise DataError(f"{run_dir}: made with other settings than the study has now")
    return read_side(study.results_dir / "runs" / name)


def _measure(factor: OneFactorRun, run: Side | str, base: Side | str, seed: int) -> Effect:
    if isinstance(run, str) or isinstance(base, str):
        return Effect(factor=factor, reason=run if isinstance(run, str) else str(base))
    try:
        refuse_other_items(run, base)
        pairs = _common_seeds(run, base)
        scored = [_scored(run, [pair[place] for pair in pairs]) for place in (0, 1)]
    except AdemvlError as error:
        return Effect(factor=factor, reason=str(error))
    statistic, column = _statistic(run)
    resample_seed = derive_seed(seed, "effect")
    found = paired_differences(scored[0], scored[1], statistic, seed=resample_seed)[column]
    value, base_value = (
        float(np.mean([statistic(v.sum(axis=0, keepdims=True))[0, column] for v in side]))
        for side in scored
    )
    return Effect(
        factor=factor,
        score="accuracy" if run.task == "scienceqa" else METRICS[column],
        value=value,
        base_value=base_value,
        difference=found,
        num_same=sum(ours[i] == theirs[i] for ours, theirs in pairs for i in run.item_ids),
        num_pairs=len(pairs) * len(run.item_ids),
    )


def _common_seeds(run: Side, base: Side) -> list[tuple[Predictions, Predictions]]:
    """Return the predictions of the seeds that both have, in pairs."""
    ours, theirs = (
        {
            source.parent.parent.name: found
            for source, found in zip(s.sources, s.predictions, strict=True)
        }
        for s in (run, base)
    )
    common = [seed for seed in ours if seed in theirs]
    if not common:
        raise DataError(f"{run.label} and {base.label} have no seed in common")
    return [(ours[seed], theirs[seed]) for seed in common]


def _scored(side: Side, predictions: Sequence[Predictions]) -> list[Floats]:
    """Return what each item adds to the score, (n, k), for each seed."""
    if side.task == "coco_caption":
        return [
            caption_item_sums(side.references, {int(i): str(text) for i, text in found.items()})
            for found in predictions
        ]
    return [
        np.array([[float(found[p.question_id] == p.answer_index)] for p in side.problems])
        for found in predictions
    ]


def _statistic(side: Side) -> tuple[Callable[[Floats], Floats], int]:
    """Return how sums over items become scores, and which of these is the main one."""
    n = len(side.item_ids)
    if side.task == "coco_caption":
        return partial(corpus_scores, n=n), METRICS.index("CIDEr")
    return partial(_mean, n=n), 0


def _mean(sums: Floats, *, n: int) -> Floats:
    return sums / n


def effects_table(effects: Sequence[Effect]) -> str:
    """Render effects in Markdown, in percent and points."""
    lines = [
        "| setting | base run | with it | base | difference in points | same answers | n | seeds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {' | '.join(_cells(effect))} |" for effect in effects]
    return "\n".join(lines) + "\n"


def _cells(effect: Effect) -> list[str]:
    factor, found = effect.factor, effect.difference
    path, _, values = factor.label.partition(": ")
    cells = [f"`{path}`: {values}", factor.base]
    if found is None:
        return [*cells, *["–"] * 6]
    interval = f"[{100 * found.ci_low:+.2f}, {100 * found.ci_high:+.2f}]"
    return [
        *cells,
        f"{100 * effect.value:.2f}",
        f"{100 * effect.base_value:.2f}",
        f"{100 * found.value:+.2f} {interval}",
        f"{100 * effect.num_same / effect.num_pairs:.1f} %",
        f"{found.n:,}",
        str(found.num_seeds[0]),
    ]
