"""Scenes of several objects: how they are drawn from a seed, and their pictures.

A scene has two to five objects in a grid of three by three cells, one of them large. What is asked
and told about it is in `ademvl.data.scene_questions` and `ademvl.data.scene_captions`.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from PIL import Image, ImageDraw

Color = Literal["black", "blue", "green", "purple", "red", "yellow"]
Shape = Literal["circle", "cross", "square", "triangle"]
Size = Literal["small", "large"]
Relation = Literal["left of", "right of", "above", "below"]

COLORS: tuple[Color, ...] = get_args(Color)
SHAPES: tuple[Shape, ...] = get_args(Shape)
SIZES: tuple[Size, ...] = get_args(Size)
COLOR_VALUES: Mapping[Color, tuple[int, int, int]] = {
    "black": (20, 20, 20),
    "blue": (40, 70, 220),
    "green": (30, 150, 50),
    "purple": (150, 50, 180),
    "red": (215, 40, 40),
    "yellow": (235, 200, 30),
}
PLACES: Mapping[tuple[int, int], str] = {
    (0, 0): "top-left",
    (0, 1): "top-middle",
    (0, 2): "top-right",
    (1, 0): "middle-left",
    (1, 1): "center",
    (1, 2): "middle-right",
    (2, 0): "bottom-left",
    (2, 1): "bottom-middle",
    (2, 2): "bottom-right",
}
"""Names of the cells by row and column, both counted from the top left; single words."""
STEPS: Mapping[Relation, tuple[int, int]] = {
    "left of": (0, -1),
    "right of": (0, 1),
    "above": (-1, 0),
    "below": (1, 0),
}
"""Where an object stands that is beside another: rows and columns from that one's cell."""
NUM_OBJECTS = (2, 3, 4, 5)

IMAGE_SIZE = 64
_CELL = IMAGE_SIZE / 3
_RADII: Mapping[Size, tuple[float, float]] = {"small": (4.5, 6.0), "large": (8.5, 9.8)}
"""Half of an object's width, least and most; one of the large ones nearly fills its cell."""
_COLOR_SPREAD = 20
_LIGHT = (225, 255)
_REPEAT = 0.3
"""Chance that an object takes its shape, and its colour, from an earlier one."""
_OVERSAMPLING = 4


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes:
        color, shape, size: by name.
        cell: row and column.
        center: x and y in pixels.
        radius: half of its width in pixels.
        fill: RGB.
    """

    color: Color
    shape: Shape
    size: Size
    cell: tuple[int, int]
    center: tuple[float, float]
    radius: float
    fill: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Colour and shape."""
        return f"{self.color} {self.shape}"

    @property
    def place(self) -> str:
        """Name of its cell."""
        return PLACES[self.cell]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in pixels."""
        (x, y), radius = self.center, self.radius
        return x - radius, y - radius, x + radius, y + radius


@dataclass(frozen=True)
class Scene:
    """Objects in the order of their cells, on a light background."""

    objects: tuple[SceneObject, ...]
    background: tuple[int, int, int]

    @property
    def main(self) -> SceneObject:
        """The large object, which catches the eye."""
        return next(item for item in self.objects if item.size == "large")

    def at(self, cell: tuple[int, int]) -> SceneObject | None:
        """Return the object in a cell, if there is one."""
        return next((item for item in self.objects if item.cell == cell), None)

    def beside(self, item: SceneObject, relation: Relation) -> SceneObject | None:
        """Return the object in the next cell in a direction, if there is one."""
        (row, column), (down, right) = item.cell, STEPS[relation]
        return self.at((row + down, column + right))


def draw_scene(generator: random.Random) -> Scene:
    """Draw a scene."""
    cells = sorted(generator.sample(sorted(PLACES), generator.choice(NUM_OBJECTS)))
    large = generator.choice(cells)
    objects: list[SceneObject] = []
    for cell in cells:
        repeats_color, repeats_shape = (
            objects and generator.random() < _REPEAT for _ in ("color", "shape")
        )
        color = generator.choice(objects).color if repeats_color else generator.choice(COLORS)
        shape = generator.choice(objects).shape if repeats_shape else generator.choice(SHAPES)
        size: Size = "large" if cell == large else "small"
        objects.append(_place(color, shape, size, cell, generator))
    red, green, blue = (generator.randint(*_LIGHT) for _ in "rgb")
    return Scene(tuple(objects), (red, green, blue))


def _place(
    color: Color, shape: Shape, size: Size, cell: tuple[int, int], generator: random.Random
) -> SceneObject:
    radius = generator.uniform(*_RADII[size])
    room = _CELL / 2 - radius
    x, y = ((index + 0.5) * _CELL + generator.uniform(-room, room) for index in (cell[1], cell[0]))
    red, green, blue = (
        min(255, max(0, value + generator.randint(-_COLOR_SPREAD, _COLOR_SPREAD)))
        for value in COLOR_VALUES[color]
    )
    return SceneObject(color, shape, size, cell, (x, y), radius, (red, green, blue))


def render(scene: Scene) -> Image.Image:
    """Draw a scene's picture, RGB of `IMAGE_SIZE` pixels squared, with smooth edges."""
    side = IMAGE_SIZE * _OVERSAMPLING
    image = Image.new("RGB", (side, side), scene.background)
    draw = ImageDraw.Draw(image)
    for item in scene.objects:
        left, top, right, bottom = (value * _OVERSAMPLING for value in item.box)
        _OUTLINES[item.shape](draw, left, top, right, bottom, fill=item.fill)
    return image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)


_Fill = tuple[int, int, int]


def _circle(
    draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float, *, fill: _Fill
) -> None:
    draw.ellipse((left, top, right, bottom), fill=fill)


def _square(
    draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float, *, fill: _Fill
) -> None:
    draw.rectangle((left, top, right, bottom), fill=fill)


def _triangle(
    draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float, *, fill: _Fill
) -> None:
    draw.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=fill)


def _cross(
    draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float, *, fill: _Fill
) -> None:
    arm = (right - left) / 3
    draw.rectangle((left, top + arm, right, bottom - arm), fill=fill)
    draw.rectangle((left + arm, top, right - arm, bottom), fill=fill)


_OUTLINES: Mapping[Shape, Callable[..., None]] = {
    "circle": _circle,
    "cross": _cross,
    "square": _square,
    "triangle": _triangle,
}
