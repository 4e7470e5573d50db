"""Draws what a question's words kept of an image: a grid of pictures, words across, layers down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ademvl.reporting.figures import new_figure
from ademvl.reporting.layout import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOR_MAP = "viridis"
_CELL_INCHES = 1.2
_OVERLAY_ALPHA = 0.6
_MAX_LAYERS = 3
_LEGEND = """\
all layers: share of
layers that kept it
single layer: score
among the kept
× dropped (all layers:
by more than half)"""


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
    """Draw one row over all layers for each scale, then the finest scale in single layers.

    Args:
        image: shown as the tower sees it, squashed to a square.
        title: stands above.
        words: columns, at least one.
    """
    scales = sorted(words[0].scores, reverse=True)
    layers = shown_layers(len(words[0].scores[scales[0]]))
    num_rows, num_columns = len(scales) + len(layers), 1 + len(words)
    figure = new_figure(_CELL_INCHES * num_columns + 0.8, _CELL_INCHES * num_rows + 0.9)
    figure.suptitle(printable(title).replace("$", r"\$"), fontsize=10)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    picture = _load_square(image)
    for axis in axes[2:, 0]:
        axis.set_visible(False)
    _draw_legend(axes[1, 0])
    _show_picture(axes[0, 0], picture)
    axes[0, 0].set_title("image", fontsize=9)
    for column, word in enumerate(words, 1):
        for row, scale in enumerate(scales):
            kept = word.is_kept[scale]
            _draw_cell(axes[row, column], picture, kept.mean(axis=0), kept.mean(axis=0) >= 0.5)
            _label_cell(axes[row, column], kept.mean())
        for row, layer in enumerate(layers, len(scales)):
            kept = word.is_kept[scales[0]][layer]
            shades = _relative(word.scores[scales[0]][layer], kept)
            _draw_cell(axes[row, column], picture, shades, kept)
            _label_cell(axes[row, column], kept.mean())
        axes[0, column].set_title(printable(word.word).replace("$", r"\$"), fontsize=10)
    for row, scale in enumerate(scales):
        _label_row(axes[row, 1], f"all layers\n{isqrt(scale)} × {isqrt(scale)} patches")
    for row, layer in enumerate(layers, len(scales)):
        _label_row(axes[row, 1], f"layer {layer + 1}\n{isqrt(scales[0])} × {isqrt(scales[0])}")
    return figure


def _load_square(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as image:
        side = max(image.size)
        return np.asarray(image.convert("RGB").resize((side, side)))


def _relative(scores: NDArray[np.float64], is_kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Map the kept scores of one cell to 0..1, lowest to highest."""
    kept = scores[is_kept]
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
    side = isqrt(len(shades))
    gray = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    _show_picture(axis, gray)
    overlay = shades.reshape(side, side)
    axis.imshow(
        overlay,
        alpha=_OVERLAY_ALPHA,
        extent=(0, 1, 1, 0),
        cmap=COLOR_MAP,
        vmin=0.0,
        vmax=1.0,
        interpolation="nearest",
    )
    rows, columns = np.nonzero(~is_kept.reshape(side, side))
    places = ((columns + 0.5) / side, (rows + 0.5) / side)
    size = (26.0 / side) ** 2
    axis.scatter(*places, marker="x", s=size, color="white", linewidths=2.2)
    axis.scatter(*places, marker="x", s=size, color="black", linewidths=1.0)


def _draw_legend(axis: "Axes") -> None:
    """Explain colours and crosses in the place under the image."""
    axis.axis("off")
    axis.set_xlim(0, 1)
    axis.set_ylim(1, 0)
    shades = np.linspace(0, 1, 64)[None]
    axis.imshow(shades, alpha=_OVERLAY_ALPHA, extent=(0, 1, 0.14, 0), cmap=COLOR_MAP, aspect="auto")
    axis.text(0, 0.2, "low", fontsize=7, va="top")
    axis.text(1, 0.2, "high", fontsize=7, va="top", ha="right")
    axis.text(0, 0.4, _LEGEND, fontsize=6.5, va="top", linespacing=1.25)


def _label_cell(axis: "Axes", kept_fraction: float) -> None:
    axis.set_xlabel(f"kept {100 * kept_fraction:.0f} %", fontsize=7, labelpad=2)


def _label_row(axis: "Axes", text: str) -> None:
    axis.set_ylabel(text, fontsize=8)
