"""Accuracy by category, and trained parameters against accuracy: measured and reported."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ademvl.reporting.figures.plotting import (
    GREY,
    INTERVAL,
    MAX_SERIES,
    draw_points,
    legend_below,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.reported import ReportedNumbers, ReportedRow
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.judging import estimate_cell, other_items_note
from ademvl.reporting.tables.layout import EMPTY, Cell, Column
from ademvl.reporting.tables.rows import Target, reported_cell, runs_by_row
from ademvl.statistics.intervals import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KEY = "scienceqa_test"
_AVERAGE = SCIENCEQA_COLUMNS[-1]
_FACTORS = {"K": 1e3, "M": 1e6, "B": 1e9}
_PARAMETER_GROUPS = ("peft_llama", "peft_llama2", "released", "replication")
_GROUP_LABELS = {
    "released": "ADEM-VL, released checkpoint",
    "replication": "ADEM-VL, retrained by the report",
}
_SIDESTEP = 0.08
"""Millions of parameters by which equal ones stand apart, so that none covers another."""


@dataclass(frozen=True)
class _Series:
    """Numbers by column key, with how they look."""

    label: str
    cells: Mapping[str, Cell]
    is_reported: bool


def draw_accuracy(results: StudyResults, reported: ReportedNumbers) -> "Figure":
    """Draw each run's accuracy in every category, with 95 % intervals.

    Beside runs of the paper's scale stand the reported numbers that they set out to reproduce.
    """
    finished = [run for run in results.of_task("scienceqa") if run.finished]
    runs = main_runs(results, finished)
    columns = [
        column
        for column in SCIENCEQA_COLUMNS
        if any(run.estimate(column.header) is not None for run in runs)
    ]
    figure = new_figure(8.8, 4.8)
    axis = figure.subplots()
    axis.set_title(f"Accuracy by category, study {plain(results.study.name)}")
    axis.set_ylabel(f"accuracy (%), {INTERVAL}")
    if not columns:
        say(axis, "not run")
        return figure
    series = [_measured_series(run) for run in runs] + _reported_series(results, reported, runs)
    for index, one in enumerate(series):
        _draw_dots(axis, one, columns, index, num_series=len(series))
    axis.set_xticks(range(len(columns)), [_tick(runs, column) for column in columns])
    axis.tick_params(axis="x", length=0)
    axis.grid(visible=False, axis="x")
    for place in range(len(columns) - 1):
        axis.axvline(place + 0.5, color="#dddddd", linewidth=0.6, zorder=0)
    axis.set_xlim(-0.5, len(columns) - 0.5)
    _fit_percent(axis)
    remarks = []
    if any(one.is_reported for one in series):
        remarks.append("hollow: reported, with intervals derived from n")
    if len(finished) > len(runs):
        remarks.append(f"{len(finished) - len(runs)} more runs stand in the table")
    axis.set_xlabel("; ".join(remarks), fontsize=8)
    legend_below(figure, axis)
    return figure


def main_runs(results: StudyResults, runs: Sequence[RunResult]) -> list[RunResult]:
    """Choose the runs that one panel can tell apart.

    Base runs come first, then those that reproduce a row of the main table, then text-only
    controls, then the others, each in the order of the study file.
    """

    def rank(run: RunResult) -> int:
        references = results.study.reported(run.name)
        claims = (
            run.name in results.study.settings.base_runs,
            any(reference.table == _KEY for reference in references),
            run.settings.images == "withheld",
        )
        return next((place for place, claim in enumerate(claims) if claim), len(claims))

    limit = MAX_SERIES if len(runs) > MAX_SERIES else len(runs)
    chosen = sorted(runs, key=rank)[:limit]
    return [run for run in runs if run in chosen]


def _measured_series(run: RunResult) -> _Series:
    found = {column.key: run.estimate(column.header) for column in SCIENCEQA_COLUMNS}
    cells = {key: estimate_cell(estimate) for key, estimate in found.items() if estimate}
    return _Series(plain(run.label), cells, is_reported=False)


def _reported_series(
    results: StudyResults, reported: ReportedNumbers, runs: Sequence[RunResult]
) -> list[_Series]:
    if results.study.scale != "paper":
        return []
    table = reported.tables[_KEY]
    found = []
    for row in table.rows:
        ours = [run for run in runs_by_row(results, reported, _KEY)[row.name] if run in runs]
        if ours and not other_items_note(ours[0], table, row):
            target = Target(table, row)
            cells = {
                column.key: _derived(target.cell(column.key).value, ours[0], column)
                for column in SCIENCEQA_COLUMNS
            }
            found.append(_Series(f"reported: {plain(row.name)}", cells, is_reported=True))
    return found


def _derived(value: float | None, run: RunResult, column: Column) -> Cell:
    """Give a reported number the binomial interval of the run's number of questions."""
    estimate = run.estimate(column.header)
    if value is None or estimate is None:
        return Cell(value=value)
    interval = wilson_interval(round(value * estimate.n / 100), estimate.n)
    return Cell(
        value=value, ci_low=100 * interval.ci_low, ci_high=100 * interval.ci_high, covers="items"
    )


def _draw_dots(
    axis: "Axes", series: _Series, columns: Sequence[Column], index: int, *, num_series: int
) -> None:
    offset = 0.7 * ((index + 0.5) / num_series - 0.5)
    draw_points(
        axis,
        [
            (place + offset, series.cells.get(column.key, EMPTY))
            for place, column in enumerate(columns)
        ],
        index,
        label=series.label,
        is_hollow=series.is_reported,
        color=GREY if series.is_reported else None,
    )


def _fit_percent(axis: "Axes") -> None:
    """Show what there is, with room, in tens; a cut axis of dots misleads less than one of bars."""
    low, high = axis.get_ylim()
    axis.set_ylim(max(0.0, 10 * (low // 10)), min(102.0, high + 2))


def _tick(runs: Sequence[RunResult], column: Column) -> str:
    found = {estimate.n for run in runs if (estimate := run.estimate(column.header))}
    return f"{column.header}\nn = {found.pop()}" if len(found) == 1 else column.header


def draw_parameters(results: StudyResults, reported: ReportedNumbers) -> "Figure":
    """Draw trained parameters against the average accuracy, reported and measured.

    Runs of the paper's scale stand among the reported methods too; others have their panel alone.
    """
    runs = [run for run in results.of_task("scienceqa") if run.estimate(_AVERAGE.header)]
    runs = [run for run in runs if _parameters(run)]
    figure = new_figure(9.4, 4.8)
    left, right = figure.subplots(1, 2)
    _draw_reported_parameters(left, reported)
    left.set_title("Reported, paper scale")
    if results.study.scale == "paper" and runs:
        left.set_title("Reported, and measured here (grey)")
        for place, run in enumerate(runs):
            _draw_point(left, run, label=None if place else "measured here")
    left.set_xlabel(
        "trained parameters (millions), intervals derived from n\n"
        "filled: LLaMA-7B; open: others; equal ones side by side"
    )
    right.set_title(f"Measured, {results.study.scale} scale")
    right.set_xlabel("trained parameters (millions)")
    chosen = main_runs(results, runs)
    for index, run in enumerate(chosen):
        _draw_point(right, run, index=index, label=plain(run.label))
    rest = [run for run in runs if run not in chosen]
    for place, run in enumerate(rest):
        _draw_point(right, run, label=None if place else "other runs")
    for axis in (left, right):
        axis.set_ylabel(f"accuracy (%), {INTERVAL}")
    if not runs:
        say(right, "not run")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=7.5)
    if runs:
        right.locator_params(axis="x", nbins=6)
        right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=1, fontsize=7.5)
    return figure


def _parameters(run: RunResult) -> int | None:
    counts = [seed.cost.trainable_parameters for seed in run.finished]
    return next((count for count in counts if count), None)


def _draw_point(
    axis: "Axes", run: RunResult, *, index: int | None = None, label: str | None = None
) -> None:
    estimate, count = run.estimate(_AVERAGE.header), _parameters(run)
    if estimate and count:
        draw_points(axis, [(count / 1e6, estimate_cell(estimate))], index, label=label)


def _draw_reported_parameters(axis: "Axes", reported: ReportedNumbers) -> None:
    table = reported.tables[_KEY]
    series: dict[str, list[ReportedRow]] = {}
    for row in table.rows:
        if row.group in _PARAMETER_GROUPS and row.trainable:
            name = _GROUP_LABELS.get(row.group, row.method)
            series.setdefault(name, []).append(row)
    drawn_at: Counter[float] = Counter()
    for index, (name, rows) in enumerate(series.items()):
        for row in rows:
            millions = _millions(row.trainable)
            place = millions + _SIDESTEP * drawn_at[millions]
            drawn_at[millions] += 1
            draw_points(
                axis,
                [(place, reported_cell(table, row, "avg"))],
                index,
                label=plain(name) if row is rows[0] else None,
                is_hollow=row.llm != "LLaMA-7B",
            )


def _millions(trainable: str) -> float:
    match = re.fullmatch(r"([0-9.]+)([KMB])", trainable)
    if match is None:
        raise ValueError(f"{trainable!r} is no number of parameters")
    return float(match[1]) * _FACTORS[match[2]] / 1e6
