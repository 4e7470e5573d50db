"""Verdicts as tables print them: on a reported number, and on the direction of a change."""

import math

from ademvl.config.run import RELEASED
from ademvl.reporting.reported import ReportedRow, ReportedTable
from ademvl.reporting.results import RunResult
from ademvl.reporting.tables.layout import Cell, Column, Judgement
from ademvl.statistics.intervals import Estimate
from ademvl.statistics.verdict import METHOD, verdict

VERDICT_NOTE = (
    f"Verdicts on reported numbers. {METHOD[0].upper()}{METHOD[1:]}. In parentheses or after the "
    "colon: measured minus reported. About one in twenty true reproductions misses by chance."
)
CHANGE_NOTE = (
    "Change: difference to the row named in the remark, each row as if it had been asked other "
    "questions; intervals of reported changes are derived from n. Its direction is told where both "
    "rows have several seeds and the intervals of both changes leave out 0: with one seed, an "
    "interval holds for these two adapters and says nothing about settings."
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
        column: of the score.
        reported: in the table's unit, with its decimals as printed.
    """
    estimates = run.seed_estimates(column.header)
    if reported.value is None or not estimates:
        return None
    decimals = column.decimals if reported.decimals is None else reported.decimals
    half_unit = 0.5 * 10**-decimals / 100
    found = verdict(estimates, reported.value / 100, half_unit=half_unit)
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
    if found.outcome == "cannot tell" and run.settings.adapter != RELEASED:
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
    )


def judge_direction(measured: Cell, reported: Cell) -> Judgement | None:
    """Tell whether a change goes the way of the reported one; None where either is missing."""
    if measured.value is None or reported.value is None:
        return None
    if _may_be_none(reported):
        return Judgement(outcome="cannot-tell", words="cannot tell: reported change may be none")
    if measured.num_seeds < _MIN_SEEDS:
        return Judgement(outcome="cannot-tell", words="cannot tell: one seed")
    if _may_be_none(measured):
        return Judgement(outcome="cannot-tell", words="cannot tell: may be none")
    if (measured.value > 0) == (reported.value > 0):
        return Judgement(outcome="same-direction", words="same direction")
    return Judgement(outcome="other-direction", words="other direction")


def _may_be_none(change_cell: Cell) -> bool:
    low, high = change_cell.ci_low, change_cell.ci_high
    return low is None or high is None or low <= 0 <= high


def estimate_cell(estimate: Estimate, *, num_seeds: int = 0) -> Cell:
    """Turn fractions into percent, or scores times 100."""
    return Cell(
        value=100 * estimate.value,
        ci_low=100 * estimate.ci_low,
        ci_high=100 * estimate.ci_high,
        n=estimate.n,
        num_seeds=num_seeds,
        method=estimate.method,
    )
