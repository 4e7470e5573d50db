"""Images that come with the package, to try `ademvl predict` on: `sample:red_circle.png`.

Each shows one shape of one colour on a light background, as the mini study's images do, and is in
none of its splits. They are drawn by `python -m ademvl.prediction.sample_images`.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ademvl.data.easy_vqa import COLOR_VALUES

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).with_name("samples")
PREFIX = "sample:"
_SIDE = 64
_OVERSAMPLING = 8


class Sample(NamedTuple):
    """What an image shows; lengths in pixels.

    Attributes:
        color, shape: what is seen.
        background: RGB.
        box: left, top, right and bottom of the shape.
    """

    color: str
    shape: str
    background: tuple[int, int, int]
    box: tuple[int, int, int, int]

    @property
    def file_name(self) -> str:
        """Name in the folder of samples."""
        return f"{self.color}_{self.shape}.png"


SAMPLES: Sequence[Sample] = (
    Sample("black", "rectangle", (250, 244, 230), (34, 8, 56, 28)),
    Sample("blue", "triangle", (238, 246, 236), (8, 30, 32, 50)),
    Sample("brown", "circle", (232, 242, 250), (30, 30, 54, 54)),
    Sample("gray", "triangle", (250, 236, 240), (32, 10, 56, 30)),
    Sample("green", "rectangle", (242, 238, 250), (6, 18, 30, 42)),
    Sample("red", "circle", (244, 244, 240), (20, 16, 44, 40)),
    Sample("teal", "circle", (250, 240, 234), (8, 8, 32, 32)),
    Sample("yellow", "rectangle", (234, 234, 246), (22, 34, 48, 54)),
)


def find_sample(name: str) -> Path | None:
    """Return the file of a sample image, None where there is none of this name."""
    names = [sample.file_name for sample in SAMPLES]
    return FOLDER / name if name in names else None


def unknown_sample(name: str) -> str:
    """Say that there is no such sample, and which ones there are."""
    names = [sample.file_name for sample in SAMPLES]
    near = get_close_matches(name, names, n=1)
    return f"no sample {name!r}; " + (
        f"did you mean {PREFIX}{near[0]}?" if near else f"there are {', '.join(names)}"
    )


def draw(sample: Sample) -> "Image":
    """Draw a sample image with smooth edges."""
    from PIL import Image, ImageDraw

    large = Image.new("RGB", (_SIDE * _OVERSAMPLING,) * 2, sample.background)
    pen, color = ImageDraw.Draw(large), COLOR_VALUES[sample.color]
    left, top, right, bottom = (_OVERSAMPLING * place for place in sample.box)
    inside = (left, top, right - 1, bottom - 1)  # Pillow's boxes hold their last pixels
    if sample.shape == "circle":
        pen.ellipse(inside, fill=color)
    elif sample.shape == "rectangle":
        pen.rectangle(inside, fill=color)
    else:
        pen.polygon([((left + right) / 2, top), (left, bottom), (right, bottom)], fill=color)
    return large.resize((_SIDE, _SIDE), Image.Resampling.BOX)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for drawn in SAMPLES:
        draw(drawn).save(FOLDER / drawn.file_name, optimize=True)
