"""Trained parameters against accuracy: measured and reported."""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from ademvl.reporting.figures.plotting import (
    MARK_SIZE,
    MAX_SERIES,
    Drawing,
    draw_points,
    interval_text,
    items_only_text,
    mark_sizes,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.reported import ReportedNumbers, ReportedRow
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA, SCIENCEQA_COLUMNS
from ademvl.reporting.tables.judging import estimate_cell
from ademvl.reporting.tables.layout import Cell
from ademvl.reporting.tables.rows import reported_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KEY = "scienceqa_test"
_AVERAGE = SCIENCEQA_COLUMNS[-1]
_FACTORS = {"K": 1e3, "M": 1e6, "B": 1e9}
_BELOW_LABELS = 5.0
"""Heights of a legend's letter between an axis and its legend: the axis' labels stand there."""
_MAX_ONE_COLUMN = 5
_PARAMETER_GROUPS = ("peft_llama", "peft_llama2", "released", "replication")
_GROUP_LABELS = {
    "released": "ADEM-VL, released checkpoint",
    "replication": "ADEM-VL, retrained by the report",
}


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


def draw_parameters(results: StudyResults, reported: ReportedNumbers) -> Drawing:
    """Draw trained parameters against the average accuracy, reported and measured.

    Runs of the paper's scale stand among the reported methods too; others have their panel alone.
    """
    study = results.study
    runs = [run for run in results.of_task(SCIENCEQA) if run.estimate(_AVERAGE.header)]
    runs = [run for run in runs if _parameters(run)]
    chosen = main_runs(results, runs)
    figure = new_figure(9.4, 5.2)
    left, right = figure.subplots(1, 2)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "fontsize": 7.5}
    below["borderaxespad"] = _BELOW_LABELS
    _draw_reported_parameters(left, reported, _marks_of_rows(results, chosen), len(chosen))
    left.set_title("Reported, paper scale")
    is_beside = study.scale == "paper" and bool(runs)
    if is_beside:
        left.set_title("Reported, and measured here (grey)")
        for place, run in enumerate(runs):
            _draw_point(left, run, label=None if place else "measured here")
    left.set_ylabel("accuracy (%), interval derived from n")
    right.set_title(f"Measured, {study.scale} scale")
    sizes = mark_sizes([(_parameters(r) or 0.0, _average_cell(r).value or 0.0) for r in chosen])
    for index, (run, size) in enumerate(zip(chosen, sizes, strict=True)):
        _draw_point(right, run, index=index, label=plain(run.label), size=size)
    rest = [run for run in runs if run not in chosen]
    for place, run in enumerate(rest):
        _draw_point(right, run, label=None if place else "other runs")
    cells = [_average_cell(run) for run in runs]
    right.set_ylabel(f"accuracy (%), {interval_text(cells)}")
    for axis in (left, right):
        axis.set_xlabel("trained parameters (millions)")
        axis.margins(0.08)
    left.legend(ncols=2, **below)
    if runs:
        right.locator_params(axis="x", nbins=6)
        right.legend(ncols=2 if len(chosen) > _MAX_ONE_COLUMN else 1, **below)
    else:
        say(right, "not run")
    figure.suptitle(
        f"Trained parameters and accuracy, study {plain(study.name)} ({study.scale} scale)",
        fontsize=10,
        fontweight="bold",
    )
    scales = " Grey: measured here." if is_beside else ""
    return Drawing(
        figure,
        "Trained parameters against the accuracy on all questions. Left: reported numbers of the "
        "paper's scale; filled marks are with LLaMA-7B, open ones with other language models."
        f"{scales} Right: measured in this study, {study.scale} scale.{items_only_text(cells)}",
    )


def _parameters(run: RunResult) -> int | None:
    counts = [seed.cost.trainable_parameters for seed in run.finished]
    return next((count for count in counts if count), None)


def _average_cell(run: RunResult) -> Cell:
    estimate = run.estimate(_AVERAGE.header)
    return estimate_cell(estimate) if estimate else Cell()


def _draw_point(
    axis: "Axes",
    run: RunResult,
    *,
    index: int | None = None,
    label: str | None = None,
    size: float = MARK_SIZE,
) -> None:
    trained = _parameters(run)
    if trained:
        draw_points(axis, [(trained / 1e6, _average_cell(run))], index, label=label, size=size)


def _marks_of_rows(results: StudyResults, runs: Sequence[RunResult]) -> dict[str, int]:
    """Return the mark of the run that reproduces each row of the main table, by the row's name."""
    return {
        reference.row: index
        for index, run in enumerate(runs)
        for reference in results.study.reported(run.name)
        if reference.table == _KEY
    }


def _draw_reported_parameters(
    axis: "Axes", reported: ReportedNumbers, marks: Mapping[str, int], num_runs: int
) -> None:
    """Draw each method with the mark of the run that reproduces it, else with one of its own."""
    table = reported.tables[_KEY]
    series: dict[str, list[ReportedRow]] = {}
    for row in table.rows:
        if row.group in _PARAMETER_GROUPS and row.trainable:
            name = _GROUP_LABELS.get(row.group, row.method)
            series.setdefault(name, []).append(row)
    others = count(num_runs)
    index_of = {}
    for name, rows in series.items():
        own = [marks[row.name] for row in rows if row.name in marks]
        index_of[name] = own[0] if own else next(others) % MAX_SERIES
    named = [(name, row) for name, rows in series.items() for row in rows]
    cells = [reported_cell(table, row, "avg") for _, row in named]
    places = [
        (_millions(row.trainable), cell.value or 0.0)
        for (_, row), cell in zip(named, cells, strict=True)
    ]
    for (name, row), cell, place, size in zip(
        named, cells, places, mark_sizes(places), strict=True
    ):
        draw_points(
            axis,
            [(place[0], cell)],
            index_of[name],
            label=plain(name) if row is series[name][0] else None,
            is_hollow=row.llm != "LLaMA-7B",
            size=size,
        )


def _millions(trainable: str) -> float:
    match = re.fullmatch(r"([0-9.]+)([KMB])", trainable)
    if match is None:
        raise ValueError(f"{trainable!r} is no number of parameters")
    return float(match[1]) * _FACTORS[match[2]] / 1e6
