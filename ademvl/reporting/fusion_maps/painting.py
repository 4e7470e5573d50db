"""Marks of one fusion map over its image, which keeps its colours: dots, crosses and veils.

`templates/fusion.js` draws the same marks by the same numbers for the page.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DOT_RADIUS, MIN_DOT = 0.42, 0.08
"""Of the highest and of the lowest score that was kept, as shares of a patch's side."""
CROSS_REACH = 0.32
"""Of a cross from its middle, where all layers dropped the patch."""
VEIL = 0.6
"""Opacity of the dark veil over such a patch."""
DARK, LIGHT = (20, 23, 26), (255, 255, 255)
_FINER = 2
"""Marks are drawn this much larger, so that their edges are smooth when it is made small."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Marks:
    """What is drawn on the patches of a square grid, row by row.

    Attributes:
        dots: (N,) relative scores, 0 to 1: a dot's area; NaN for no dot.
        drops: (N,) share of layers that dropped a patch: size of its cross, darkness of its veil.
    """

    dots: Floats
    drops: Floats


def marks_of_layer(scores: Floats, is_kept: NDArray[np.bool_]) -> Marks:
    """Mark one layer: dots by score where a patch was kept, whole crosses where not; (N,) each."""
    return Marks(
        dots=np.where(is_kept, relative_scores(scores, is_kept), np.nan),
        drops=(~is_kept).astype(np.float64),
    )


def marks_over_layers(is_kept: NDArray[np.bool_]) -> Marks:
    """Mark the share of layers that dropped each patch; `is_kept` is (L, N)."""
    drops = 1 - is_kept.mean(axis=0)
    return Marks(dots=np.full_like(drops, np.nan), drops=drops)


def relative_scores(scores: Floats, is_kept: NDArray[np.bool_]) -> Floats:
    """Map the kept scores of one cell to 0..1, lowest to highest; all 0 where none was kept."""
    kept = scores[is_kept]
    if not kept.size:
        return np.zeros_like(scores)
    low, high = kept.min(), kept.max()
    relative: Floats = (scores - low) / (high - low if high > low else 1.0)
    return relative.clip(0.0, 1.0)


def dot_radius(share: float) -> float:
    """Return the radius of a relative score's dot as a share of a patch's side."""
    return max(DOT_RADIUS * share**0.5, MIN_DOT)


def paint(picture: Image.Image, marks: Marks, *, size: int) -> NDArray[np.uint8]:
    """Paint marks over a picture that is squashed to a square; returns (size, size, 3).

    Dots and crosses are white with a dark rim, so that they are seen on any colour.
    """
    side = _FINER * size
    canvas = picture.convert("RGB").resize((side, side))
    pen = ImageDraw.Draw(canvas, "RGBA")
    grid = isqrt(len(marks.drops))
    step = side / grid
    rim = max(_FINER, round(step / 40))
    for patch, (dot, drop) in enumerate(zip(marks.dots, marks.drops, strict=True)):
        row, column = divmod(patch, grid)
        x, y = (column + 0.5) * step, (row + 0.5) * step
        if drop > 0:
            corner = (x + step / 2 - 1, y + step / 2 - 1)
            veil = (*DARK, round(255 * VEIL * drop))
            pen.rectangle((x - step / 2, y - step / 2, *corner), fill=veil)
            _cross(pen, x, y, reach=CROSS_REACH * drop * step, rim=rim)
        if not np.isnan(dot):
            radius = dot_radius(float(dot)) * step
            box = (x - radius, y - radius, x + radius, y + radius)
            pen.ellipse(box, fill=LIGHT, outline=DARK, width=rim)
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX))


def _cross(pen: ImageDraw.ImageDraw, x: float, y: float, *, reach: float, rim: int) -> None:
    width = max(rim, round(reach / 4))
    for color, thickness in ((DARK, width + 2 * rim), (LIGHT, width)):
        for slant in (-1, 1):
            ends = (x - reach, y - slant * reach, x + reach, y + slant * reach)
            pen.line(ends, fill=color, width=thickness)
