"""Verdicts as tables print them: on a reported number, and on the direction of a change."""

import math

from ademvl.config.run import GIVEN_ADAPTERS
from ademvl.reporting.reported import ReportedRow, ReportedTable
from ademvl.reporting.results import RunResult
from ademvl.reporting.tables.layout import Cell, Column, Judgement
from ademvl.statistics.effect_verdict import MARGIN
from ademvl.statistics.intervals import Estimate
from ademvl.statistics.paired import Difference, seeds_to_see
from ademvl.statistics.percent import in_percent
from ademvl.statistics.seed_spread import UNKNOWN, known_spread, spread_of
from ademvl.statistics.verdict import METHOD, verdict

VERDICT_NOTE = (
    f"Verdicts on reported numbers. {METHOD[0].upper()}{METHOD[1:]}. In parentheses or after the "
    "colon: measured minus reported. About one in twenty true reproductions misses by chance."
)
CHANGE_NOTE = (
    "Change: difference to the row named in the remark, each row as if it had been asked other "
    "questions; intervals of reported changes are derived from n. Its direction is told where both "
    "rows have several seeds, the spread between seeds is known and the intervals of both changes "
    "leave out 0: with one seed, an interval holds for these two adapters and says nothing about "
    "settings."
)
_MIN_SEEDS = 2
"""Of each row; with one, two trainings with the same settings may differ as much."""


def other_items_note(run: RunResult, table: ReportedTable, row: ReportedRow) -> str:
    """Say why a run cannot be judged by a reported row; empty where it can.

    A reported number holds for its own test items: a run that was scored on another split, or on
    another number of items, was not scored on those.
    """
    ours, theirs = run.settings.evaluation.split, row.split or table.split
    if run.finished and theirs not in ("", ours):
        return f"No verdict: scored on the split {ours}, the reported numbers are for {theirs}."
    counts = [score.n for seed in run.finished for score in seed.scores.values()]
    if table.n is None or not counts or max(counts) == table.n:
        return ""
    return f"No verdict: scored on {max(counts):,} items, the reported numbers are for {table.n:,}."


def judge(run: RunResult, column: Column, reported: Cell) -> Judgement | None:
    """Judge a reported number by a run's seeds; None where either is missing.

    Released weights are one training and the same one that the number is about: no other seed can
    explain a difference, so that outside of the interval nothing is left open.

    Args:
        run: scored on the items that the number was reported for.
        column: says which score of the run, and how many decimals count.
        reported: in the table's unit, with its decimals as printed.
    """
    estimates = run.seed_estimates(column.header)
    if reported.value is None or not estimates:
        return None
    decimals = column.decimals if reported.decimals is None else reported.decimals
    half_unit = 0.5 * 10**-decimals / 100
    others = run.others.get(column.header, UNKNOWN)
    found = verdict(estimates, reported.value / 100, half_unit=half_unit, others=others)
    numbers = (found.difference, found.ci_low, found.ci_high)
    difference, ci_low, ci_high = (100 * number for number in numbers)
    if found.outcome == "reproduced":
        return Judgement(
            outcome="reproduced",
            words="reproduced",
            difference=difference,
            ci_low=ci_low,
            ci_high=ci_high,
        )
    if found.outcome == "cannot tell" and run.settings.adapter not in GIVEN_ADAPTERS:
        seeds = "one seed" if found.num_seeds == 1 else f"only {found.num_seeds} seeds"
        return Judgement(
            outcome="cannot-tell",
            words="cannot tell",
            difference=difference,
            ci_low=ci_low,
            ci_high=ci_high,
            reason=seeds,
        )
    return Judgement(
        outcome="not-reproduced",
        words="not reproduced",
        difference=difference,
        ci_low=ci_low,
        ci_high=ci_high,
    )


def change(cell: Cell, base: Cell) -> Cell:
    """Return how much a cell differs from another, with the interval of the difference.

    Scores on different splits have no difference.
    The intervals of both are joined as if independent (MOVER, Zou and Donner 2008). Its seeds are
    those of the cell that has fewer.
    """
    if cell.value is None or base.value is None or cell.split != base.split:
        return Cell(missing=cell.missing)
    value = cell.value - base.value
    ends = (cell.ci_low, cell.ci_high, base.ci_low, base.ci_high)
    if None in ends:
        return Cell(value=value)
    low, high, base_low, base_high = (end for end in ends if end is not None)
    return Cell(
        value=value,
        ci_low=value - math.hypot(cell.value - low, base_high - base.value),
        ci_high=value + math.hypot(high - cell.value, base.value - base_low),
        num_seeds=min(cell.num_seeds, base.num_seeds),
        method="MOVER",
        covers="items" if "items" in (cell.covers, base.covers) else "seeds and items",
    )


def needed_seeds(run: RunResult, base: RunResult, column: Column, moved: Cell) -> int | None:
    """Return how many seeds of both runs would at least show a change in 80 % of cases.

    At least, as only chance in training is reckoned with: both runs are asked the same questions,
    and `ademvl effects` knows how much those still add. A change of `MARGIN` or more is asked for,
    as smaller ones do not matter. None where the spread between seeds is not known.

    Args:
        run: its score minus the base's is the change.
        base: asked the same questions as the run.
        column: says which score moved.
        moved: the change as the table prints it, in points.
    """
    if moved.value is None:
        return None
    variance = 0.0
    for side in (run, base):
        estimates = side.seed_estimates(column.header)
        others = side.others.get(column.header, UNKNOWN)
        spread = known_spread(spread_of([found.value for found in estimates]), others)
        if spread is None:
            return None
        variance += spread.variance
    return seeds_to_see(max(abs(moved.value) / 100, MARGIN), item_error=0.0, seed_variance=variance)


def judge_direction(
    measured: Cell, reported: Cell, *, needed_seeds: int | None = None
) -> Judgement | None:
    """Tell whether a change goes the way of the reported one; None where either is missing.

    Args:
        measured: change here, with its interval, in points.
        reported: change that others printed, with an interval where one follows from n.
        needed_seeds: that would show the measured change.
    """
    if measured.value is None or reported.value is None:
        return None
    if _may_be_none(reported):
        return Judgement(outcome="cannot-tell", words="cannot tell: reported change may be none")
    if measured.num_seeds < _MIN_SEEDS:
        return Judgement(outcome="cannot-tell", words="cannot tell: one seed")
    if measured.covers != "seeds and items":
        return Judgement(outcome="cannot-tell", words="cannot tell: too few seeds")
    if _may_be_none(measured):
        needed = f", at least {needed_seeds} seeds would show it" if needed_seeds else ""
        return Judgement(outcome="cannot-tell", words=f"cannot tell: may be none{needed}")
    if (measured.value > 0) == (reported.value > 0):
        return Judgement(outcome="same-direction", words="same direction")
    return Judgement(outcome="other-direction", words="other direction")


def _may_be_none(change_cell: Cell) -> bool:
    low, high = change_cell.ci_low, change_cell.ci_high
    return low is None or high is None or low <= 0 <= high


def estimate_cell(estimate: Estimate, *, num_seeds: int = 0) -> Cell:
    """Turn fractions into percent, or scores times 100."""
    return _cell(estimate, num_seeds=num_seeds)


def difference_cell(found: Difference) -> Cell:
    """Turn a paired difference of fractions into points."""
    return _cell(found, num_seeds=min(found.num_seeds))


def _cell(found: Estimate | Difference, *, num_seeds: int) -> Cell:
    value, low, high = in_percent(found)
    return Cell(
        value=value,
        ci_low=low,
        ci_high=high,
        n=found.n,
        num_seeds=num_seeds,
        method=found.method,
        covers="seeds and items" if found.covers_seeds else "items",
    )
