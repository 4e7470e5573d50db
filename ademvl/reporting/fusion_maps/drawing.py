"""Draws what words kept of an image as one sheet: words and scales across, all layers down."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ademvl.data.image_files import open_rgb
from ademvl.reporting.figures.plotting import new_figure
from ademvl.reporting.fusion_maps.painting import Marks, marks_of_layer, marks_over_layers, paint
from ademvl.reporting.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL, _GAP, _LINE = 0.8, 0.07, 0.15
"""Inches: a map's side, the space beside it, and that of the line of text below it."""
_LEFT, _LABELS, _TOP = 2.05, 0.62, 0.95
"""Inches: the column of image and legend, the layers' names, and what stands above the maps."""
_LEGEND_SIDE, _LEGEND_TOP = 0.3, 1.75
_PIXELS = 128
"""Of a map's side, as large as the picture shows it."""
_MAX_PICTURE = 1024
"""Pixels of a picture's side: more than a cell shows, and no memory is lost on very wide images."""
_GROUND = (150, 155, 160)


@dataclass(frozen=True, eq=False)
class WordMap:
    """What one word saw of the image.

    Attributes:
        word: as in the question.
        scores: similarities before dropping by scale, each (L, scale).
        is_kept: bool by scale, each (L, scale).
    """

    word: str
    scores: Mapping[int, NDArray[np.float64]]
    is_kept: Mapping[int, NDArray[np.bool_]]


def draw_fusion_map(image: Path | Image.Image, title: str, words: Sequence[WordMap]) -> "Figure":
    """Draw a row over all layers and one for each layer; a column for each scale and word.

    Args:
        image: shown as the tower sees it, squashed to a square.
        title: stands above.
        words: columns within each scale, at least one.
    """
    scales = sorted(words[0].scores, reverse=True)
    num_layers = len(words[0].scores[scales[0]])
    width = _LEFT + _LABELS + len(scales) * (len(words) * (_CELL + _GAP) + 2 * _GAP)
    height = _TOP + max((num_layers + 1) * (_CELL + _LINE), _LEGEND_TOP + 5 * 0.4)
    figure, axis = _sheet(width, height)
    axis.text(0.1, 0.1, _plain(title, width=round(11 * width)), fontsize=10, va="top")
    picture = _load(image)
    _show(axis, picture, Marks(np.full(1, np.nan), np.zeros(1)), 0.1, _TOP, side=1.45)
    _draw_legend(axis, num_layers)
    for layer in range(num_layers + 1):
        name = f"layer {layer}" if layer else "all layers"
        x, y = _LEFT + _LABELS - 0.08, _TOP + layer * (_CELL + _LINE) + _CELL / 2
        axis.text(x, y, name, fontsize=7.5, ha="right", va="center")
    x = _LEFT + _LABELS
    for scale in scales:
        side = isqrt(scale)
        axis.text(x, _TOP - 0.38, f"{side} × {side} patches", fontsize=8, fontweight="bold")
        for word in words:
            _draw_column(axis, picture, word, scale, x)
            x += _CELL + _GAP
        x += 2 * _GAP
    return figure


def _sheet(width: float, height: float) -> tuple["Figure", "Axes"]:
    """Create a figure with one axis over all of it, whose unit is an inch, from the upper left."""
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    return figure, axis


def _draw_column(axis: "Axes", picture: Image.Image, word: WordMap, scale: int, x: float) -> None:
    """Draw one word at one scale: over all layers, then layer by layer."""
    scores, is_kept = word.scores[scale], word.is_kept[scale]
    middle = x + _CELL / 2
    axis.text(middle, _TOP - 0.08, _plain(word.word, width=13, lines=1), fontsize=8, ha="center")
    cells = [(marks_over_layers(is_kept), is_kept)]
    cells += [(marks_of_layer(s, kept), kept) for s, kept in zip(scores, is_kept, strict=True)]
    for row, (marks, kept) in enumerate(cells):
        y = _TOP + row * (_CELL + _LINE)
        _show(axis, picture, marks, x, y, side=_CELL)
        text = f"kept {100 * kept.mean():.0f} %"
        axis.text(middle, y + _CELL + 0.1, text, fontsize=6, ha="center")


def _show(
    axis: "Axes", picture: Image.Image, marks: Marks, x: float, y: float, *, side: float
) -> None:
    pixels = paint(picture, marks, size=round(_PIXELS * side / _CELL))
    axis.imshow(pixels, extent=(x, x + side, y + side, y), aspect="auto")
    axis.set_xlim(0, axis.figure.get_figwidth())  # type: ignore[union-attr]  # no subfigure
    axis.set_ylim(axis.figure.get_figheight(), 0)  # type: ignore[union-attr]


def _draw_legend(axis: "Axes", num_layers: int) -> None:
    """Explain the marks, each as it is drawn, below the image."""
    none, whole = np.nan, 1.0
    samples = [
        (none, whole, "dropped: by the layer,\nor by all layers"),
        (0.0, 0.0, "kept: the layer's lowest\nscore of those kept"),
        (1.0, 0.0, "kept: its highest score"),
    ]
    if num_layers > 1:
        text = f"all layers: dropped\nby 1 of {num_layers}"
        samples.insert(1, (none, 1 / num_layers, text))
    ground = Image.new("RGB", (8, 8), _GROUND)
    for place, (dot, drop, text) in enumerate(samples):
        y = _TOP + _LEGEND_TOP + 0.4 * place
        _show(axis, ground, Marks(np.array([dot]), np.array([drop])), 0.1, y, side=_LEGEND_SIDE)
        middle = y + _LEGEND_SIDE / 2
        axis.text(0.1 + _LEGEND_SIDE + 0.08, middle, text, fontsize=7, va="center")


def _plain(text: str, *, width: int, lines: int = 3) -> str:
    """Wrap a text, and keep a dollar sign from starting mathematics."""
    return "\n".join(textwrap.wrap(printable(text), width)[:lines]).replace("$", r"\$")


def _load(image: Path | Image.Image) -> Image.Image:
    picture = open_rgb(image) if isinstance(image, Path) else image
    side = min(max(picture.size), _MAX_PICTURE)
    return picture.resize((side, side))
