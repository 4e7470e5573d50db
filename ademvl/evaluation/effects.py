"""The effect of one setting: each run of a study against the base run that it differs from in it.

All values are fractions, as in `paired`; the table has percent and points.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ademvl.config.factors import OneFactorRun, one_factor_runs
from ademvl.config.study import Study, read_run
from ademvl.errors import AdemvlError, DataError
from ademvl.evaluation.captions import METRICS, caption_item_sums, corpus_scores
from ademvl.evaluation.comparison_inputs import Side, read_side, refuse_other_items
from ademvl.evaluation.paired import Difference, paired_differences
from ademvl.evaluation.statistics import Floats
from ademvl.randomness import derive_seed


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


def read_item_scores(path: Path) -> ItemScores:
    """Read a run's predictions, of all of its seeds.

    Args:
        path: folder of the run's seeds.

    Raises:
        DataError: see `read_side`.
        ToolError: captions cannot be tokenized.
    """
    side = read_side(path)
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
    return paired_differences(first, second, run.statistic, seed=seed)[run.place]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What changing one setting did.

    Attributes:
        factor: run, base and setting.
        value, base_value: of the main score, mean over common seeds.
        difference: run minus base, on the same items; None where there is none.
        reason: why there is no difference; empty where there is one.
        same_fraction: of predictions that are the same in run and base.
    """

    factor: OneFactorRun
    value: float = 0.0
    base_value: float = 0.0
    difference: Difference | None = None
    reason: str = ""
    same_fraction: float = 0.0


def measure_effects(study: Study, *, seed: int = 0) -> tuple[Effect, ...]:
    """Measure the effects of a study's `base_runs`, from the predictions that are there.

    Args:
        study: with `base_runs`; without any there are no effects.
        seed: of the resamples.
    """
    known: dict[str, ItemScores | str] = {}
    return tuple(
        _measure(factor, _read(study, factor.run, known), _read(study, factor.base, known), seed)
        for factor in one_factor_runs(study)
    )


def _read(study: Study, name: str, known: dict[str, ItemScores | str]) -> ItemScores | str:
    """Read a run's predictions once; text says why they cannot be read."""
    if name not in known:
        try:
            _refuse_stale(study, name)
            known[name] = read_item_scores(study.results_dir / "runs" / name)
        except AdemvlError as error:
            known[name] = str(error)
    return known[name]


def _refuse_stale(study: Study, name: str) -> None:
    for run in study.runs:
        run_dir = study.run_dir(run)
        if run.name == name and (run_dir / "run.yaml").is_file() and read_run(run_dir) != run:
            raise DataError(f"{run_dir}: made with other settings than the study has now")


def _measure(
    factor: OneFactorRun, run: ItemScores | str, base: ItemScores | str, seed: int
) -> Effect:
    if isinstance(run, str):
        return Effect(factor=factor, reason=run)
    if isinstance(base, str):
        return Effect(factor=factor, reason=base)
    try:
        seeds = common_seeds(run, base)
        difference = paired_effect(run, base, seed=derive_seed(seed, "effect"))
    except AdemvlError as error:
        return Effect(factor=factor, reason=str(error))
    return Effect(
        factor=factor,
        value=float(np.mean([run.score(name) for name in seeds])),
        base_value=float(np.mean([base.score(name) for name in seeds])),
        difference=difference,
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
        f"{100 * effect.same_fraction:.1f} %",
        f"{found.n:,}",
        str(found.num_seeds[0]),
    ]
