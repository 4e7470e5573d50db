"""Accuracy against what a method costs, and the line of those that none beats in both."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ademvl.reporting.figures.plotting import (
    GREY,
    Drawing,
    draw_points,
    interval_text,
    items_only_text,
    legend_below,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.method_comparison import COLUMN, MethodRow, compare_methods
from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import StudyResults
from ademvl.reporting.tables.judging import estimate_cell
from ademvl.reporting.tables.layout import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Price = Callable[[MethodRow], float | None]


def _cost(name: str, factor: float) -> Price:
    def price(row: MethodRow) -> float | None:
        found = row.cost(name)
        return None if found is None else factor * found

    return price


_PANELS: tuple[tuple[str, Price], ...] = (
    ("trained parameters (millions)", _cost("trainable_parameters", 1e-6)),
    ("training (GFLOP/item)", _cost("training_flops", 1e-9)),
    ("training (s/step)", lambda row: row.step_seconds),
    ("inference (ms/item)", _cost("answer_seconds", 1e3)),
)
_WIDE = 30.0
"""From this ratio of the dearest to the cheapest on, an axis is logarithmic."""


def draw_pareto(results: StudyResults, reported: ReportedNumbers) -> Drawing:
    """Draw accuracy against each cost that was recorded, a line of panels for each comparison."""
    study = results.study
    comparisons = [
        (found.llm, rows)
        for found in compare_methods(results, reported)
        if (rows := [row for row in found.rows if row.accuracy is not None])
    ]
    every = [row for _, rows in comparisons for row in rows]
    panels = [(title, price) for title, price in _PANELS if any(map(price, every))]
    figure = new_figure(9.4, 1.6 + 3.0 * max(len(comparisons), 1))
    figure.suptitle(
        f"Accuracy and cost of methods, study {plain(study.name)} ({study.scale} scale)",
        fontsize=10,
        fontweight="bold",
    )
    axes = figure.subplots(
        max(len(comparisons), 1), max(len(panels), 1), sharey="row", squeeze=False
    )
    if not panels:
        say(axes[0, 0], "not run" if not every else "no costs recorded")
        return Drawing(figure, "Accuracy and cost of methods: not run.")
    cells = [_accuracy(row) for row in every]
    for (llm, rows), line in zip(comparisons, axes, strict=True):
        for axis, (title, price) in zip(line, panels, strict=True):
            _draw_panel(axis, rows, price)
            axis.set_xlabel(title)
        line[0].set_ylabel(f"accuracy (%), {interval_text(cells)}")
        line[0].set_title(plain(llm), loc="left")
    legend_below(figure, axes[0, 0])
    return Drawing(
        figure,
        "Accuracy on all questions against what each method costs. Grey line: methods that no "
        "other one of the study matches at less cost, by the measured means."
        f"{items_only_text(cells)}",
    )


def _draw_panel(axis: "Axes", rows: Sequence[MethodRow], price: Price) -> None:
    paid = {row.run.name: found for row in rows if (found := price(row))}
    for index, row in enumerate(rows):
        if row.run.name in paid:
            point = (paid[row.run.name], _accuracy(row))
            draw_points(axis, [point], index, label=plain(row.run.label))
    if paid and max(paid.values()) > _WIDE * min(paid.values()):
        axis.set_xscale("log")
        axis.minorticks_off()
    elif paid:
        axis.set_xlim(left=0, right=1.1 * max(paid.values()))
        axis.locator_params(axis="x", nbins=4)
    front = pareto_front(
        [(paid[row.run.name], 100 * (row.accuracy or 0.0)) for row in rows if row.run.name in paid]
    )
    costs, values = zip(*front, strict=True)
    axis.step(costs, values, where="post", color=GREY, linewidth=1.0, zorder=1)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (cost, value) than which none is cheaper and as good, the cheapest first.

    Args:
        points: at least one.
    """
    front: list[tuple[float, float]] = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front


def _accuracy(row: MethodRow) -> Cell:
    estimate = row.run.estimate(COLUMN)
    return estimate_cell(estimate) if estimate else Cell()
