"""What all figures share: look, colours, legends, and files that are the same bytes every time.

Colours are those of Okabe and Ito, told apart with any colour vision; line style and marker repeat
what they say, so that figures can be read in grey print.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.reporting.printable import printable
from ademvl.reporting.tables.layout import Cell
from ademvl.storage.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1a1f24"
"""Of texts and axes; SVG leaves pure black out, and `on_dark` could not find it."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")
GREY = "#8a8f94"
_MAX_LABEL = 80
MAX_LINES = len(COLORS)
"""Curves that one panel can tell apart."""
MAX_SERIES = 2 * len(COLORS)
"""Marks that one panel can tell apart: each colour comes again with another shape."""
MARK_SIZE = 5.0
_LARGER = 3.0
_SAME_PLACE = 0.015
"""Of an axis' length: marks nearer than this cover each other."""
_SHIFT = 3
"""Places in MARKERS between the two shapes of a colour."""
_DPI = 160
_LEGEND_INCHES = 0.066
"""Width of a character in a legend, a little more than the mean of DejaVu Sans."""
_DARK = {
    "#ffffff": "#11151a",
    INK: "#e4e8ec",
    "#dddddd": "#343e48",
    "#f4f6f8": "#1a2027",
    "#555555": "#a2adb7",
    "#c9cdd1": "#5a6570",
    "#0072b2": "#56b4e9",
    "#56b4e9": "#a9dcff",
    "#d55e00": "#ff8a3d",
    "#009e73": "#2fd0a2",
    "#cc79a7": "#e79cc6",
    "#e69f00": "#ffc34d",
}
"""Colours of figures on a dark ground, by those on white; others stand as they are."""
_STYLE = {
    "svg.hashsalt": "ademvl",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, and a caption of what is to be seen in it."""

    figure: "Figure"
    caption: str


@contextmanager
def plotting() -> Iterator[None]:
    """Apply the project's look; nothing of it stays behind."""
    import matplotlib

    with matplotlib.rc_context(dict(_STYLE)):  # type: ignore[arg-type]  # names are checked there
        yield


def save_figure(figure: "Figure", stem: Path, *, suffixes: Sequence[str] = ("png", "svg")) -> None:
    """Write a figure beside `stem` in each format, atomically and without a date."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()  # lays it out, once for all formats
        figure.set_layout_engine("none")
    for suffix in suffixes:
        metadata = {"Software": None} if suffix == "png" else {"Date": None}
        with atomic_path(stem.with_name(f"{stem.name}.{suffix}")) as path:
            figure.savefig(path, format=suffix, dpi=_DPI, metadata=metadata)


def on_dark(svg: str) -> str:
    """Return a figure's SVG with its colours for a dark ground; what it shows stays the same."""
    return re.sub(r"#[0-9a-f]{6}", lambda found: _DARK.get(found[0], found[0]), svg)


def new_figure(width: float, height: float) -> "Figure":
    """Create a figure that no window system and no global state knows of; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Laid out at the resolution of the PNG; SVG has slightly wider texts, hence some room.
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def legend_below(figure: "Figure", axis: "Axes") -> None:
    """Put the legend of an axis below the whole figure, in as many columns as have room."""
    handles, labels = axis.get_legend_handles_labels()
    if not handles:
        return
    room = figure.get_figwidth() / (_LEGEND_INCHES * max(map(len, labels)) + 0.5)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(int(room), len(labels), 4)),
        fontsize=8,
    )


def say(axis: "Axes", text: str) -> None:
    """Put a sentence in place of data."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#555555")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)


def plain(text: str) -> str:
    """Make a text fit for a label: short, and without a dollar sign that starts mathematics."""
    return textwrap.shorten(printable(text), _MAX_LABEL, placeholder="…").replace("$", r"\$")


def interval_text(cells: Iterable[Cell]) -> str:
    """Name the intervals of an axis as `draw_interval` draws them."""
    return "95 % interval" + (" (dotted: items only)" if cover_items_only(cells) else "")


def cover_items_only(cells: Iterable[Cell]) -> bool:
    """Tell whether any number has an interval that covers items only, which is dotted."""
    return any(cell.covers == "items" and cell.value is not None for cell in cells)


def items_only_text(cells: Iterable[Cell]) -> str:
    """Return the sentence of a caption about dotted intervals; nothing where there are none."""
    if not cover_items_only(cells):
        return ""
    return " Dotted: the interval covers items only, no other training."


def mark_of(index: int | None) -> tuple[str, str]:
    """Return colour and marker of a series, or those of what stands in the background."""
    if index is None or index >= MAX_SERIES:
        return GREY, "."
    place, again = index % len(COLORS), index // len(COLORS)
    return COLORS[place], MARKERS[(place + _SHIFT * again) % len(MARKERS)]


def mark_sizes(places: Sequence[tuple[float, float]]) -> list[float]:
    """Return the size of each mark, larger where later ones would hide it."""
    spans = [max(along) - min(along) or 1.0 for along in zip(*places, strict=True)]

    def is_near(one: tuple[float, float], other: tuple[float, float]) -> bool:
        pairs = zip(one, other, spans, strict=True)
        return all(abs(a - b) < _SAME_PLACE * span for a, b, span in pairs)

    return [
        MARK_SIZE + _LARGER * sum(is_near(place, later) for later in places[number + 1 :])
        for number, place in enumerate(places)
    ]


def draw_points(
    axis: "Axes",
    points: Sequence[tuple[float, Cell]],
    index: int | None,
    *,
    label: str | None = None,
    is_hollow: bool = False,
    is_joined: bool = False,
    size: float = MARK_SIZE,
) -> bool:
    """Draw numbers with their intervals; those that are missing are left out.

    Args:
        axis: where to.
        points: place on the horizontal axis, and number.
        index: of the series, which gives colour and marker; None for a small grey mark.
        label: in the legend; None for no entry.
        is_hollow: the mark is not filled.
        is_joined: a line joins the marks.
        size: of the marks, in points.

    Returns:
        Whether anything was drawn.
    """
    known = [(place, cell, cell.value) for place, cell in points if cell.value is not None]
    if not known:
        return False
    shade, marker = mark_of(index)
    zorder = 1 if index is None else 2
    axis.plot(
        [place for place, _, _ in known],
        [value for _, _, value in known],
        marker=marker,
        linestyle=LINES[(index or 0) % len(LINES)] if is_joined else "none",
        color=shade,
        markerfacecolor="white" if is_hollow else shade,
        markersize=size,
        label=label,
        zorder=zorder + 0.1,
    )
    for place, cell, _ in known:
        capsize, width = (0.0, 0.7) if index is None else (2.5, 1.2)
        draw_interval(axis, place, cell, Bar(shade, capsize, width, zorder))
    return True


@dataclass(frozen=True)
class Bar:
    """How an interval is drawn; `capsize` and `width` in points."""

    color: str
    capsize: float = 2.5
    width: float = 1.2
    zorder: float = 2


def draw_interval(
    axis: "Axes",
    place: float,
    cell: Cell,
    bar: Bar,
    *,
    is_across: bool = False,
) -> None:
    """Draw a number's interval; dotted and without ends where it covers items only."""
    low, high = error_of(cell)
    if cell.value is None or not (low or high):
        return
    x, y = (cell.value, place) if is_across else (place, cell.value)
    reach = [[low], [high]]
    items_only = cell.covers == "items"
    drawn = axis.errorbar(
        [x],
        [y],
        fmt="none",
        ecolor=bar.color,
        elinewidth=bar.width,
        capsize=0 if items_only else bar.capsize,
        zorder=bar.zorder,
        xerr=reach if is_across else None,
        yerr=None if is_across else reach,
    )
    if items_only:
        for line in drawn[2]:
            line.set_linestyle((0, (1, 1.2)))


def error_of(cell: Cell) -> tuple[float, float]:
    """Return how far a cell's interval reaches below and above its value; 0 without one."""
    if cell.value is None or cell.ci_low is None or cell.ci_high is None:
        return 0.0, 0.0
    return max(cell.value - cell.ci_low, 0.0), max(cell.ci_high - cell.value, 0.0)
