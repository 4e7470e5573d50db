"""Images, captions and words for training and testing the mini CLIP.

All images are decoded once into one tensor. Each shows one shape on a plain background, so that a
shape can be moved to any place without inventing pixels.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ademvl.data.easy_vqa import COLORS, SHAPES
from ademvl.data.image_files import open_rgb
from ademvl.data.images import CLIP_MEAN_STD, IMAGENET_MEAN_STD
from ademvl.data.mini import CAPTION_TEMPLATES
from ademvl.errors import DataError
from ademvl.storage.files import read_json, sha256_file

CLASSES = tuple((color, shape) for color in COLORS for shape in SHAPES)
NORMALIZATIONS = {"imagenet": IMAGENET_MEAN_STD, "clip": CLIP_MEAN_STD}
"""ScienceQA images come with ImageNet's mean and std, captioned ones with CLIP's."""

_REMEDY = "Convert the mini data again."


class WordTokenizer:
    """Words of the mini captions; id 0 pads, the last id ends a text and is where CLIP pools."""

    def __init__(self, words: Sequence[str], *, context_length: int) -> None:
        self._ids = {word: place for place, word in enumerate(words, start=1)}
        self._end = len(words) + 1
        self._context_length = context_length

    @property
    def vocab_size(self) -> int:
        """Words, padding and end."""
        return self._end + 1

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return ids, (texts, context_length) int64.

        Raises:
            ValueError: an unknown word, or a text that is too long.
        """
        ids = torch.zeros(len(texts), self._context_length, dtype=torch.int64)
        for row, text in enumerate(texts):
            words = text.split()
            if len(words) >= self._context_length:
                raise ValueError(f"{text!r}: more than {self._context_length - 1} words")
            if unknown := [word for word in words if word not in self._ids]:
                raise ValueError(f"{text!r}: unknown word {unknown[0]!r}")
            encoded = [*(self._ids[word] for word in words), self._end]
            ids[row, : len(encoded)] = torch.tensor(encoded)
        return ids


def vocabulary() -> tuple[str, ...]:
    """Return all words of captions, sorted."""
    text = " ".join((*CAPTION_TEMPLATES, *COLORS, *SHAPES, "a picture of"))
    return tuple(sorted(set(re.sub(r"\{\w+\}", " ", text).split())))


@dataclass(frozen=True)
class LabeledImages:
    """Decoded images with their classes.

    Attributes:
        pixels: (n, 3, H, W) uint8.
        classes: (n,) int64, places in `CLASSES`.
        captions: references of each image; empty where the data has none.
    """

    pixels: Tensor
    classes: Tensor
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.classes)


def load_captioned(data_dir: Path, split: str, *, image_size: int) -> LabeledImages:
    """Decode the captioned images of a split.

    Raises:
        DataError: a missing or malformed file, an image of another size, or a caption that names
            no colour and shape.
    """
    folder = data_dir / "coco_caption"
    path = folder / "annotations" / f"captions_{split}.json"
    data = read_json(path, remedy=_REMEDY)
    try:
        references: dict[int, list[str]] = {row["id"]: [] for row in data["images"]}
        for row in data["annotations"]:
            references[row["image_id"]].append(row["caption"])
        files = [folder / "images" / row["file_name"] for row in data["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not in the format of COCO captions ({error}). {_REMEDY}"
        ) from error
    captions = tuple(tuple(items) for items in references.values())
    classes = [_class_of(" ".join(items), path) for items in captions]
    return LabeledImages(_decode(files, image_size), torch.tensor(classes), captions)


def load_test_images(data_dir: Path, *, image_size: int) -> LabeledImages:
    """Decode every image of the test splits of both layouts once."""
    captioned = load_captioned(data_dir, "test", image_size=image_size)
    path = data_dir / "scienceqa" / "problems.json"
    problems = read_json(path, remedy=_REMEDY)
    found: dict[str, tuple[Path, int]] = {}
    for question_id, problem in problems.items():
        if problem["split"] == "test" and problem["image"]:
            file = data_dir / "scienceqa" / "images" / "test" / question_id / problem["image"]
            found.setdefault(sha256_file(file), (file, _class_of(problem["solution"], path)))
    pixels = torch.cat(
        [captioned.pixels, _decode([file for file, _ in found.values()], image_size)]
    )
    labels = torch.cat([captioned.classes, torch.tensor([label for _, label in found.values()])])
    unique: dict[bytes, int] = {}
    for place, image in enumerate(pixels):
        unique.setdefault(image.numpy().tobytes(), place)
    kept = torch.tensor(list(unique.values()))
    return LabeledImages(pixels[kept], labels[kept], ())


def normalize(pixels: Tensor, name: str) -> Tensor:
    """Turn uint8 pixels (B, 3, H, W) into float32 with mean and std of `NORMALIZATIONS[name]`."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALIZATIONS[name])
    return (pixels.float() / 255 - mean) / std


def shape_boxes(pixels: Tensor) -> Tensor:
    """Return first row, last row, first and last column of each shape, (n, 4) int64.

    The background is the median colour: a shape covers less than half of its image.
    """
    background = pixels.flatten(2).median(dim=2).values[:, :, None, None]  # (n, 3, 1, 1)
    is_shape = (pixels != background).any(dim=1)  # (n, H, W)
    bounds = []
    for axis in (2, 1):
        occupied = is_shape.any(dim=axis).to(torch.uint8)  # (n, H) or (n, W)
        length = occupied.shape[1]
        bounds += [occupied.argmax(dim=1), length - 1 - occupied.flip(1).argmax(dim=1)]
    return torch.stack(bounds, dim=1)


def move_shapes(pixels: Tensor, boxes: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images left to right, and move each shape to a random place.

    Rotates rows and columns by an amount that keeps the shape whole, which is exact on a plain
    background.

    Args:
        pixels: (B, 3, H, W).
        boxes: (B, 4) as from `shape_boxes`.
        generator: of the random choices.
    """
    batch, _, height, width = pixels.shape
    rows = _moved(torch.arange(height), boxes[:, 0], boxes[:, 1], generator)
    columns = _moved(torch.arange(width), boxes[:, 2], boxes[:, 3], generator)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    items = torch.arange(batch)[:, None, None]
    moved = pixels.permute(0, 2, 3, 1)[items, rows[:, :, None], columns[:, None, :]]  # (B, H, W, 3)
    return moved.permute(0, 3, 1, 2)


def _moved(axis: Tensor, first: Tensor, last: Tensor, generator: torch.Generator) -> Tensor:
    """Return where each row (or column) of the moved image comes from, (B, H)."""
    room = len(axis) - (last - first)  # number of possible places
    place = (torch.rand(len(first), generator=generator) * room).long()
    return (axis[None, :] - (place - first)[:, None]) % len(axis)


def _class_of(text: str, path: Path) -> int:
    words = set(re.findall(r"[a-z]+", text.lower()))
    found = [place for place, pair in enumerate(CLASSES) if words.issuperset(pair)]
    if len(found) != 1:
        raise DataError(f"{path}: {json.dumps(text)} names no single colour and shape. {_REMEDY}")
    return found[0]


def _decode(files: Sequence[Path], image_size: int) -> Tensor:
    pixels = torch.empty(len(files), 3, image_size, image_size, dtype=torch.uint8)
    for place, file in enumerate(files):
        image = open_rgb(file)
        if image.size != (image_size, image_size):
            raise DataError(
                f"{file}: {image.width} x {image.height} pixels, expected {image_size} x "
                f"{image_size}. {_REMEDY}"
            )
        data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels[place] = data.view(image_size, image_size, 3).permute(2, 0, 1)
    return pixels
