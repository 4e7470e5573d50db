"""Draws what a question's words kept of an image: a grid of pictures, words across, layers down."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ademvl.data.image_files import open_rgb
from ademvl.reporting.figures.plotting import new_figure
from ademvl.reporting.tables.layout import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOR_MAP = "viridis"
_CELL_INCHES = 1.15
_MAX_LAYERS = 3
_MAX_PICTURE = 1024
"""Pixels of a picture's side: more than a cell shows, and no memory is lost on very wide images."""
_SHADE_ALPHA, _DROPPED_ALPHA = 0.45, 0.5  # so that the picture is seen under both
_DROPPED_COLOR = (0.08, 0.09, 0.1)
_LEGEND = """\
all layers: share that kept it
one layer: score of the kept"""


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


def shown_layers(num_layers: int) -> list[int]:
    """Return up to three layers: first, middle and last, 0-based."""
    if num_layers <= _MAX_LAYERS:
        return list(range(num_layers))
    return [0, (num_layers - 1) // 2, num_layers - 1]


def draw_fusion_map(image: Path, title: str, words: Sequence[WordMap]) -> "Figure":
    """Draw, for each scale, one row over all layers and one for each of some single layers.

    Args:
        image: shown as the tower sees it, squashed to a square.
        title: stands above.
        words: columns, at least one.
    """
    scales = sorted(words[0].scores, reverse=True)
    layers = shown_layers(len(words[0].scores[scales[0]]))
    rows = [(scale, layer) for scale in scales for layer in (None, *layers)]
    num_columns = 1 + len(words)
    figure = new_figure(_CELL_INCHES * num_columns + 0.8, _CELL_INCHES * len(rows) + 0.9)
    figure.suptitle(_plain(title, width=26 * num_columns), fontsize=10)
    axes = figure.subplots(len(rows), num_columns, squeeze=False)
    picture = _load_square(image)
    for axis in axes[1:, 0]:
        axis.axis("off")
    _draw_legend(axes[1, 0])
    _show_picture(axes[0, 0], picture)
    axes[0, 0].set_title("image", fontsize=9)
    for column, word in enumerate(words, 1):
        axes[0, column].set_title(_plain(word.word, width=14), fontsize=10)
        for row, (scale, layer) in enumerate(rows):
            kept = word.is_kept[scale] if layer is None else word.is_kept[scale][layer]
            if layer is None:
                shades = kept.mean(axis=0)
                _draw_cell(axes[row, column], picture, shades, shades >= 0.5)
            else:
                shades = relative_scores(word.scores[scale][layer], kept)
                _draw_cell(axes[row, column], picture, shades, kept)
            axes[row, column].set_xlabel(f"kept {100 * kept.mean():.0f} %", fontsize=7, labelpad=2)
    for row, (scale, layer) in enumerate(rows):
        _label_row(axes[row, 1], scale, layer)
    return figure


def _plain(text: str, *, width: int) -> str:
    """Wrap a text, and keep a dollar sign from starting mathematics."""
    return textwrap.fill(printable(text), width).replace("$", r"\$")


def _load_square(path: Path) -> NDArray[np.uint8]:
    picture = open_rgb(path)
    side = min(max(picture.size), _MAX_PICTURE)
    return np.asarray(picture.resize((side, side)))


def relative_scores(scores: NDArray[np.float64], is_kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Map the kept scores of one cell to 0..1, lowest to highest; all 0 where none was kept."""
    kept = scores[is_kept]
    if not kept.size:
        return np.zeros_like(scores)
    low, high = kept.min(), kept.max()
    relative: NDArray[np.float64] = (scores - low) / (high - low if high > low else 1.0)
    return relative.clip(0.0, 1.0)


def _show_picture(axis: "Axes", picture: NDArray[np.uint8]) -> None:
    axis.imshow(picture, extent=(0, 1, 1, 0))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)


def _draw_cell(
    axis: "Axes",
    picture: NDArray[np.uint8],
    shades: NDArray[np.float64],
    is_kept: NDArray[np.bool_],
) -> None:
    """Lay shades (0..1, one a patch, row by row) over the picture and cross dropped patches."""
    import matplotlib

    side = isqrt(len(shades))
    _show_picture(axis, picture)
    overlay = matplotlib.colormaps[COLOR_MAP](shades.reshape(side, side))  # (side, side, 4)
    dropped = ~is_kept.reshape(side, side)
    overlay[..., 3] = _SHADE_ALPHA
    overlay[dropped] = (*_DROPPED_COLOR, _DROPPED_ALPHA)
    axis.imshow(overlay, extent=(0, 1, 1, 0), interpolation="nearest")
    rows, columns = np.nonzero(dropped)
    _cross(axis, (columns + 0.5) / side, (rows + 0.5) / side, inches=_CELL_INCHES / side)


def _cross(axis: "Axes", x: ArrayLike, y: ArrayLike, *, inches: float) -> None:
    """Mark places with a white cross of 40 % of a patch of that size."""
    points = 72 * 0.4 * inches
    axis.scatter(x, y, marker="x", s=points**2, color="white", linewidths=min(1.2, points / 4))


def _draw_legend(axis: "Axes") -> None:
    """Explain colours and crosses in the place under the image."""
    axis.axis("off")
    shades = np.linspace(0, 1, 64)[None]
    axis.imshow(shades, alpha=_SHADE_ALPHA, extent=(0, 1, 0.12, 0), cmap=COLOR_MAP, aspect="auto")
    axis.text(0, 0.17, "low", fontsize=7, va="top")
    axis.text(1, 0.17, "high", fontsize=7, va="top", ha="right")
    axis.text(0, 0.36, _LEGEND, fontsize=6, va="top", linespacing=1.2)
    axis.imshow([[(*_DROPPED_COLOR, _DROPPED_ALPHA)]], extent=(0, 0.14, 0.97, 0.83))
    _cross(axis, 0.07, 0.9, inches=0.14 * _CELL_INCHES)
    axis.text(0.2, 0.9, "dropped (all layers:\nby more than half)", fontsize=6, va="center")
    axis.set_xlim(0, 1)
    axis.set_ylim(1, 0)


def _label_row(axis: "Axes", scale: int, layer: int | None) -> None:
    name = "all layers" if layer is None else f"layer {layer + 1}"
    axis.set_ylabel(f"{name}\n{isqrt(scale)} × {isqrt(scale)} patches", fontsize=8)
