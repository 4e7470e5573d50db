"""Accuracy by category: a panel a category, a line a run, measured and reported."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ademvl.reporting.figures.plotting import (
    GREY,
    Bar,
    Drawing,
    draw_interval,
    items_only_text,
    mark_of,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA, SCIENCEQA_COLUMNS, meaning_of
from ademvl.reporting.tables.judging import estimate_cell, other_items_note
from ademvl.reporting.tables.layout import EMPTY, Cell, Column
from ademvl.reporting.tables.rows import Target, derived_cell, runs_by_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KEY = "scienceqa_test"
_TITLE_WIDTH, _LABEL_WIDTH = 13, 34
_LINE_INCHES = 0.27
_STRIPE = "#f4f6f8"


@dataclass(frozen=True)
class _Line:
    """A run's or a reported row's numbers by column key; `index` gives colour and marker."""

    label: str
    cells: Mapping[str, Cell]
    index: int
    is_reported: bool = False


def draw_accuracy(results: StudyResults, reported: ReportedNumbers) -> Drawing:
    """Draw each run's accuracy in every category, with 95 % intervals; all panels share an axis.

    Below runs of the paper's scale stand the reported numbers that they set out to reproduce.
    """
    lines = _lines(results, reported)
    columns = [
        column for column in SCIENCEQA_COLUMNS if any(column.key in line.cells for line in lines)
    ]
    study = results.study
    about = f"study {plain(study.name)} ({study.scale} scale)"
    if not columns:
        figure = new_figure(9.4, 2.4)
        axis = figure.subplots()
        axis.set_title(f"Accuracy by category, {about}")
        say(axis, "not run")
        return Drawing(figure, "Accuracy by category: not run.")
    figure = new_figure(9.4, 1.5 + _LINE_INCHES * len(lines))
    axes = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    for axis, column in zip(axes, columns, strict=True):
        _draw_panel(axis, lines, column)
        axis.set_title(_title(study.column_notes, lines, column), fontsize=7.5, fontweight="normal")
    _label_lines(axes[0], lines)
    _fit_percent(axes[0])
    figure.suptitle(f"Accuracy by category, {about}", fontsize=10, fontweight="bold")
    figure.supxlabel("accuracy (%), with 95 % intervals", fontsize=8.5)
    return Drawing(figure, _caption(lines))


def _caption(lines: Sequence[_Line]) -> str:
    hollow = any(line.is_reported for line in lines)
    reported = " Hollow: reported, with intervals derived from n." if hollow else ""
    cells = [cell for line in lines if not line.is_reported for cell in line.cells.values()]
    return (
        "Accuracy by category with 95 % intervals."
        f"{reported}{items_only_text(cells)} The same numbers stand in the table."
    )


def _lines(results: StudyResults, reported: ReportedNumbers) -> list[_Line]:
    table = reported.tables[_KEY]
    rows_of: dict[str, list[Target]] = {}
    if results.study.scale == "paper":
        for row in table.rows:
            for run in runs_by_row(results, reported, _KEY)[row.name]:
                if not other_items_note(run, table, row):
                    rows_of.setdefault(run.name, []).append(Target(table, row))
    found = []
    for index, run in enumerate(run for run in results.of_task(SCIENCEQA) if run.finished):
        estimates = {column.key: run.estimate(column.header) for column in SCIENCEQA_COLUMNS}
        cells = {key: estimate_cell(estimate) for key, estimate in estimates.items() if estimate}
        found.append(_Line(plain(run.label), cells, index))
        for target in rows_of.get(run.name, ()):
            theirs = {
                key: derived_cell(target.cell(key).value, n) for key, n in _numbers_of_items(cells)
            }
            label = f"reported: {plain(target.row.name)}"
            found.append(_Line(label, theirs, index, is_reported=True))
    return found


def _numbers_of_items(cells: Mapping[str, Cell]) -> list[tuple[str, int]]:
    return [(key, cell.n) for key, cell in cells.items() if cell.n]


def _draw_panel(axis: "Axes", lines: Sequence[_Line], column: Column) -> None:
    for place, line in enumerate(lines):
        if place % 2 == 0:
            axis.axhspan(place - 0.5, place + 0.5, color=_STRIPE, linewidth=0, zorder=0)
        cell = line.cells.get(column.key, EMPTY)
        if cell.value is None:
            continue
        color, marker = mark_of(line.index)
        color = GREY if line.is_reported else color
        axis.plot(
            [cell.value],
            [place],
            marker,
            color=color,
            markerfacecolor="white" if line.is_reported else color,
            markersize=5,
            zorder=3,
            clip_on=False,  # a mark of 100 % stands on the panel's edge
        )
        draw_interval(axis, place, cell, Bar(color), is_across=True)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=7)


def _title(notes: Mapping[str, str], lines: Sequence[_Line], column: Column) -> str:
    """Name a category in the study's own words, with the number of its questions."""
    numbers = {line.cells[column.key].n for line in lines if column.key in line.cells}
    n = f"\nn = {numbers.pop()}" if len(numbers) == 1 else ""
    return "\n".join(textwrap.wrap(plain(meaning_of(column, notes)), _TITLE_WIDTH)) + n


def _label_lines(axis: "Axes", lines: Sequence[_Line]) -> None:
    labels = ["\n".join(textwrap.wrap(line.label, _LABEL_WIDTH)[:2]) for line in lines]
    axis.set_yticks(range(len(lines)), labels, fontsize=7.5)
    axis.set_ylim(len(lines) - 0.5, -0.5)


def _fit_percent(axis: "Axes") -> None:
    """Show what there is, with room, in tens; a cut axis of dots misleads less than one of bars."""
    low, _ = axis.get_xlim()
    start = max(0.0, 10 * (low // 10))
    axis.set_xlim(start - 2, 102)
    middle = 10 * round((start + 100) / 20)
    axis.set_xticks(sorted({start, middle, 100}))
