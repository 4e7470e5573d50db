"""Reads the easy-VQA data set out of the installed package `easy-vqa` and checks it completely.

Each image shows one shape of one colour on a light background. The package only lists questions;
the class of an image is measured on its pixels and must agree with every question about it.
Nothing of the package is part of this project: it is read where pip put it.
"""

import importlib.metadata
import importlib.util
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ademvl.errors import DataError, ToolError, list_findings
from ademvl.storage.files import read_json

QuestionType = Literal["color", "shape", "yes_no"]
SourceSplit = Literal["train", "test"]

COLOR_VALUES = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}
"""RGB values with which the package's generator fills its shapes."""
COLORS = tuple(COLOR_VALUES)
SHAPES = ("circle", "rectangle", "triangle")
YES_NO = ("yes", "no")
QUESTIONS = {"train": 38575, "test": 9673}
"""Sizes of easy-vqa 1.0, from the README in its data folder."""

_TEST_OFFSET = 100_000
"""Added to the numbers of the package's test images: it numbers both splits from 0."""
_INSTALL = "Install it with `pip install easy-vqa==1.0`."
_REINSTALL = "Reinstall it with `pip install --force-reinstall easy-vqa==1.0`."
_NEGATION = re.compile(r"\b(?:not|no)\b")
_YES_NO_BEGINNINGS = ("is ", "does ", "can ")
_TRIANGLE_TOP = 0.36
"""Fraction of its area in the upper half: triangle 1/4, circle and rectangle 1/2."""
_EMPTY = 0.02
"""Covered pixels of a row under which the row counts as outside the shape."""
_RECTANGLE_FILL = 0.93
"""Fraction of its width times its height that a shape fills: circle pi/4, rectangle 1."""


@dataclass(frozen=True)
class SourceImage:
    """One image of the package with its measured class."""

    split: SourceSplit
    number: int
    path: Path
    color: str
    shape: str

    @property
    def image_id(self) -> int:
        """Number that is unique over both splits of the package."""
        return self.number + (_TEST_OFFSET if self.split == "test" else 0)

    def write(self, target: Path) -> None:
        """Copy the image's file."""
        shutil.copyfile(self.path, target)


@dataclass(frozen=True)
class SourceQuestion:
    """One question of the package."""

    text: str
    answer: str
    image: SourceImage


def find_source() -> tuple[Path, str]:
    """Return the data folder of the installed package, and the package's version.

    Raises:
        ToolError: the package is not installed.
    """
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise ToolError(f"The package easy-vqa, which holds the mini data, is missing. {_INSTALL}")
    return Path(spec.origin).parent / "data", importlib.metadata.version("easy-vqa")


def load_questions(source: Path, split: SourceSplit) -> list[SourceQuestion]:
    """Read all questions of a split in the package's order, exact repetitions dropped.

    Raises:
        DataError: unreadable or malformed questions, missing images, or an image whose pixels
            contradict a question; lists all findings.
    """
    path = source / split / "questions.json"
    rows = read_json(path, remedy=_REINSTALL)
    if not isinstance(rows, list) or not all(_is_question(row) for row in rows):
        raise DataError(
            f"{path}: expected a list of [question, answer, image number]. {_REINSTALL}"
        )
    images, findings = _measure_images(source, split, sorted({row[2] for row in rows}))
    questions = []
    for text, answer, number in dict.fromkeys(tuple(row) for row in rows):
        image = images.get(number)
        if image is None:
            continue
        if true_answer(text, image.color, image.shape) != answer:
            findings.append(f"image {number} ({image.color} {image.shape}): {text} {answer}")
        questions.append(SourceQuestion(text, answer, image))
    if findings:
        raise DataError(list_findings(f"{path}: images and answers differ", findings, _REINSTALL))
    return questions


def question_type(text: str) -> QuestionType:
    """Return what a question of the package asks for, also where it is worded otherwise."""
    words = text.lower()
    if words.startswith(_YES_NO_BEGINNINGS):
        return "yes_no"
    return "color" if re.search(r"\bcolor\b", words) else "shape"


def is_negated(text: str) -> bool:
    """Tell whether a yes/no question asks for absence ("not", "no")."""
    return _NEGATION.search(text) is not None


def mentioned(text: str, words: tuple[str, ...]) -> str | None:
    """Return the one of `words` that stands in a question, if any."""
    return next((word for word in words if re.search(rf"\b{word}\b", text)), None)


def true_answer(text: str, color: str, shape: str) -> str:
    """Answer a question of the package about a shape of a colour."""
    kind = question_type(text)
    if kind == "color":
        return color
    if kind == "shape":
        return shape
    is_there = mentioned(text, COLORS) in (None, color) and mentioned(text, SHAPES) in (None, shape)
    return "yes" if is_there != is_negated(text) else "no"


def measure_class(path: Path) -> tuple[str, str]:
    """Measure colour and shape on an image's pixels.

    The colour is the one that most pixels have exactly. The shape follows from how the area is
    spread, with edge pixels counted as far as the shape covers them.

    Raises:
        DataError: the file is no image, or shows no pixel of a known colour.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.int32)  # (H, W, 3)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: not a readable image ({error}). {_REINSTALL}") from error
    to_code = np.array([65536, 256, 1], dtype=np.int32)
    codes = (pixels @ to_code).ravel()
    counts = [int((codes == np.array(value) @ to_code).sum()) for value in COLOR_VALUES.values()]
    if not any(counts):
        raise DataError(f"{path}: no pixel has a known colour. {_REINSTALL}")
    color = COLORS[counts.index(max(counts))]
    corner = 0 if tuple(pixels[0, 0]) != COLOR_VALUES[color] else -1
    background = pixels[corner, corner]
    axis = np.array(COLOR_VALUES[color]) - background
    covered = ((pixels - background) @ axis / (axis @ axis)).clip(0, 1)  # (H, W)
    widths, heights = covered.sum(axis=1), covered.sum(axis=0)
    area = float(covered.sum())
    rows = np.flatnonzero(widths > _EMPTY)
    middle = (rows[0] + rows[-1]) / 2
    above = np.arange(len(widths)) < middle
    top = float(widths[above].sum() + widths[np.arange(len(widths)) == middle].sum() / 2)
    if top / area < _TRIANGLE_TOP:
        return color, "triangle"
    fill = area / float(widths.max() * heights.max())
    return color, "rectangle" if fill > _RECTANGLE_FILL else "circle"


def _measure_images(
    source: Path, split: SourceSplit, numbers: list[int]
) -> tuple[Mapping[int, SourceImage], list[str]]:
    images: dict[int, SourceImage] = {}
    findings = []
    for number in numbers:
        path = source / split / "images" / f"{number}.png"
        if not path.is_file():
            findings.append(f"{path}: missing")
            continue
        images[number] = SourceImage(split, number, path, *measure_class(path))
    return images, findings


def _is_question(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 3
        and isinstance(row[0], str)
        and isinstance(row[1], str)
        and isinstance(row[2], int)
    )
