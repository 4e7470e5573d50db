"""Ablation bars: the change from each table's base row, reported and measured, both from zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ademvl.reporting.figures.plotting import (
    COLORS,
    INK,
    Bar,
    Drawing,
    draw_interval,
    interval_text,
    items_only_text,
    new_figure,
    plain,
)
from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import StudyResults
from ademvl.reporting.tables.keys import ABLATIONS
from ademvl.reporting.tables.layout import DASH, EMPTY, LEAD_KEYS, Block, Cell, Column, Row
from ademvl.reporting.tables.paired import paired_table
from ademvl.reporting.tables.rows import refers_to

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Bars:
    """Changes of one ablation: a label a row, and for each row what was reported and measured."""

    title: str
    labels: tuple[str, ...]
    reported: tuple[Cell, ...]
    measured: tuple[Cell, ...]


def draw_ablations(results: StudyResults, reported: ReportedNumbers) -> Drawing:
    """Draw the ablations that the study has runs of; all five as reported where it has none."""
    keys = [key for key in ABLATIONS if any(refers_to(results, run, key) for run in results.runs)]
    ablations = [_bars(results, reported, key) for key in keys or ABLATIONS]
    heights = [len(one.labels) + 1.2 for one in ablations]
    figure = new_figure(9.4, 0.9 + 0.27 * sum(heights))
    axes = figure.subplots(len(ablations), 2, squeeze=False, height_ratios=heights)
    for (left, right), one in zip(axes, ablations, strict=True):
        _draw(left, one.labels, one.reported, color="#c9cdd1", hatch="////")
        _draw(right, one.labels, one.measured, color=COLORS[0], hatch="")
        left.set_title(one.title, fontsize=8.5, loc="left")
        right.set_yticklabels([])
    scale = results.study.scale
    measured = [cell for one in ablations for cell in one.measured]
    cells = [*measured, *(cell for one in ablations for cell in one.reported)]
    figure.suptitle(
        f"Change of accuracy from the base row (points, {interval_text(cells)}).   "
        f"Left, hatched: reported, paper scale.   Right: measured, {scale} scale",
        fontsize=9,
    )
    has_intervals = any(cell.ci_low is not None and not cell.missing for cell in measured)
    asked = (
        " Measured intervals take the runs as if they had been asked different questions."
        if has_intervals
        else ""
    )
    return Drawing(
        figure,
        "Change of the accuracy on all questions from the base row of each of the paper's "
        f"ablations; left reported, right measured ({scale} scale).{asked}{items_only_text(cells)}",
    )


def _bars(results: StudyResults, reported: ReportedNumbers, key: str) -> _Bars:
    block = paired_table(results, reported, key).blocks[0]
    base = reported.tables[key].base
    columns = {column.key: column for column in block.columns}
    rows = _first_of_each(block)
    return _Bars(
        title=f"{block_title(reported, key)} (base: {base})",
        labels=tuple(_label(block, row) for row in rows),
        reported=tuple(_cell(row, columns.get("reported_change"), base) for row in rows),
        measured=tuple(_cell(row, columns.get("measured_change"), base) for row in rows),
    )


def block_title(reported: ReportedNumbers, key: str) -> str:
    """Return the ablation's name without the word that all of them share."""
    title = reported.tables[key].title.removeprefix("Ablation: ")
    return plain(title[0].upper() + title[1:])


def _first_of_each(block: Block) -> list[Row]:
    return list({row.key: row for row in reversed(block.rows)}.values())[::-1]


def _label(block: Block, row: Row) -> str:
    """Name a row by its texts; those that say nothing alone get their column's header."""
    headers = dict(zip(block.lead_keys, block.lead_headers, strict=True))
    shown = [key for key in block.lead_keys if key == "name" or key not in LEAD_KEYS]
    texts = []
    for key in shown:
        text = row.texts.get(key, "")
        needs_header = any(
            other.texts.get(key, "").isdigit() or other.texts.get(key) in ("yes", "no")
            for other in block.rows
        )
        texts.append(f"{headers[key]} {text}" if needs_header else text)
    return plain(", ".join(filter(None, texts)))


def _cell(row: Row, column: Column | None, base: str) -> Cell:
    if row.key == base:
        return Cell(value=0.0, missing="base")
    if column is None:
        return Cell(missing="not run")
    cell = row.cell(column)
    return cell if cell != EMPTY else Cell(missing=DASH)


def _draw(
    axis: "Axes", labels: Sequence[str], cells: Sequence[Cell], *, color: str, hatch: str
) -> None:
    places = range(len(labels))
    axis.barh(
        places,
        [cell.value or 0.0 for cell in cells],
        height=0.62,
        color=color,
        edgecolor="#555555",
        linewidth=0.5,
        hatch=hatch,
    )
    for place, cell in zip(places, cells, strict=True):
        if cell.value is not None and not cell.missing:
            draw_interval(axis, place, cell, Bar(INK, capsize=2, width=0.8), is_across=True)
    axis.set_yticks(places, labels, fontsize=7.5)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=7.5)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.axvline(0, color=INK, linewidth=0.8)
    _write_values(axis, cells)


def _write_values(axis: "Axes", cells: Sequence[Cell]) -> None:
    """Write each change in a column at the right edge, where no bar can cover it."""
    for place, cell in enumerate(cells):
        text = cell.missing or (f"{cell.value:+.2f}" if cell.value is not None else DASH)
        axis.annotate(
            text.replace("-", "−"),
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
        )
