"""Methods compared: accuracy, difference to ADEM-VL, and how often each comes first."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ademvl.reporting.figures.plotting import (
    COLORS,
    GREY,
    INK,
    Bar,
    Drawing,
    draw_interval,
    interval_text,
    items_only_text,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.method_comparison import COLUMN, MethodRow, compare_methods, share
from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import StudyResults
from ademvl.reporting.tables.judging import difference_cell, estimate_cell
from ademvl.reporting.tables.layout import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_WIDTH = 38
_ROOM = 1.1
"""Inches of a part beside its rows: title, axis, and what stands between parts."""


def draw_methods(results: StudyResults, reported: ReportedNumbers) -> Drawing:
    """Draw the methods of each part of each comparison, the most accurate first."""
    study = results.study
    parts = [
        (found.llm, tower, _sorted(rows))
        for found in compare_methods(results, reported)
        for tower, rows in found.parts.items()
        if any(row.accuracy is not None for row in rows)
    ]
    heights = [_ROOM + 0.3 * len(rows) for _, _, rows in parts] or [1.5]
    figure = new_figure(9.4, 0.5 + sum(heights))
    figure.suptitle(
        f"Methods compared, study {plain(study.name)} ({study.scale} scale)",
        fontsize=10,
        fontweight="bold",
    )
    if not parts:
        say(figure.subplots(), "not run")
        return Drawing(figure, "Methods compared: not run.")
    axes = figure.subplots(
        len(parts), 3, squeeze=False, height_ratios=heights, width_ratios=(3, 3, 1.7)
    )
    rows = [row for _, _, members in parts for row in members]
    cells = [_accuracy_cell(row) for row in rows]
    for (llm, tower, members), (accuracy, difference, first) in zip(parts, axes, strict=True):
        _draw_dots(accuracy, [_accuracy_cell(row) for row in members])
        _draw_dots(difference, [_difference(row) for row in members])
        difference.axvline(0, color=INK, linewidth=0.8, zorder=1)
        _draw_first(first, members)
        accuracy.set_yticks(range(len(members)), [_label(row) for row in members], fontsize=8)
        for axis in (difference, first):
            axis.set_yticks(range(len(members)), [""] * len(members))
        for axis in (accuracy, difference, first):
            axis.set_ylim(len(members) - 0.5, -0.5)
            axis.tick_params(axis="y", length=0)
            axis.grid(visible=False, axis="y")
        accuracy.set_title(f"{tower}, {plain(llm)}", loc="left")
        accuracy.set_xlabel(f"accuracy (%), {interval_text(cells)}")
        difference.set_xlabel("points minus ADEM-VL, paired")
        first.set_xlabel("first (% of draws)")
    return Drawing(figure, f"{_caption(rows)}{items_only_text(cells)}")


def _caption(rows: Sequence[MethodRow]) -> str:
    text = (
        "Methods under equal conditions. Left: accuracy on all questions. Middle: the same minus "
        "that of ADEM-VL, on the same questions."
    )
    if any(row.rank for row in rows):
        text += (
            " Right: how often each comes first when other questions are asked and other seeds are "
            "trained; methods with adapters in the tower and without are ranked apart."
        )
    return text


def _sorted(rows: Sequence[MethodRow]) -> list[MethodRow]:
    return sorted(rows, key=lambda row: -(row.accuracy if row.accuracy is not None else -1.0))


def _label(row: MethodRow) -> str:
    return textwrap.shorten(plain(row.run.label), _LABEL_WIDTH, placeholder="…")


def _accuracy_cell(row: MethodRow) -> Cell:
    estimate = row.run.estimate(COLUMN)
    return estimate_cell(estimate) if estimate else Cell()


def _difference(row: MethodRow) -> Cell:
    return difference_cell(row.difference) if row.difference else Cell()


def _draw_dots(axis: "Axes", cells: Sequence[Cell]) -> None:
    for place, cell in enumerate(cells):
        if cell.value is not None:
            axis.plot([cell.value], [place], "o", color=COLORS[0], markersize=5, zorder=2)
            draw_interval(axis, place, cell, Bar(COLORS[0]), is_across=True)


def _draw_first(axis: "Axes", rows: Sequence[MethodRow]) -> None:
    if not any(row.rank for row in rows):
        axis.text(
            0.5, 0.5, "no ranking:\ntoo few seeds", transform=axis.transAxes, ha="center",
            va="center", color="#555555", fontsize=8,
        )  # fmt: skip
        axis.set_xticks([])
        return
    for place, row in enumerate(rows):
        if row.rank:
            axis.barh([place], [100 * row.rank.first], height=0.6, color=GREY, zorder=2)
            axis.annotate(
                share(row.rank), (100 * row.rank.first, place), (3, 0), fontsize=7, va="center",
                textcoords="offset points",
            )  # fmt: skip
    axis.set_xlim(0, 135)
    axis.set_xticks([0, 50, 100])
