"""Random changes of training images for captioning, each drawn from a given generator.

The recipe is the customary one of captioning models: a random resized crop, a flip, and two
operations of RandAugment at magnitude 5 of 10.
"""

from collections.abc import Callable
from math import exp, log, sqrt
from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance, ImageOps

from ademvl.data.image_files import resize_to_square
from ademvl.randomness import derive_seed

if TYPE_CHECKING:
    import torch

CROP_SCALE = (0.5, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
NUM_OPERATIONS = 2
MAGNITUDE = 5

_CROP_ATTEMPTS = 10
_FILL = (128, 128, 128)
# Strength of an operation at magnitude 0 and 10 (AutoAugment, arXiv 1805.09501): enhancement
# factors, where 1 changes nothing (so magnitude 5 does not); shear; shift as a fraction of the
# side (10 pixels of 224); degrees.
_ENHANCEMENT = (0.1, 1.9)
_SHEAR = (0.0, 0.3)
_SHIFT = (0.0, 10 / 224)
_DEGREES = (0.0, 30.0)


def augmentation_generator(*, seed: int, epoch: int, item_id: str) -> "torch.Generator":
    """Return the generator of one item in one epoch, whatever the order of items."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, "augmentation", epoch, item_id))


def augment_for_captions(
    image: Image.Image, *, size: int, generator: "torch.Generator"
) -> Image.Image:
    """Return a random crop of an RGB image as (size, size), flipped or not, with two operations."""
    box = _crop_box(image.width, image.height, generator)
    image = resize_to_square(image, size, box=box)
    if _uniform(0, 1, generator) < 0.5:
        image = ImageOps.mirror(image)
    for _ in range(NUM_OPERATIONS):
        operation = _OPERATIONS[int(_uniform(0, len(_OPERATIONS), generator))]
        sign = 1.0 if _uniform(0, 1, generator) < 0.5 else -1.0
        image = operation(image, sign)
    return image


def _crop_box(width: int, height: int, generator: "torch.Generator") -> tuple[int, int, int, int]:
    """Draw a box with a share of the area in CROP_SCALE; the whole image where none fits."""
    for _ in range(_CROP_ATTEMPTS):
        area = width * height * _uniform(*CROP_SCALE, generator)
        ratio = exp(_uniform(log(CROP_RATIO[0]), log(CROP_RATIO[1]), generator))
        crop_width, crop_height = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(_uniform(0, width - crop_width + 1, generator))
            top = int(_uniform(0, height - crop_height + 1, generator))
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


def _uniform(low: float, high: float, generator: "torch.Generator") -> float:
    import torch

    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def _strength(bounds: tuple[float, float]) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * MAGNITUDE / 10


def _affine(image: Image.Image, *coefficients: float) -> Image.Image:
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        coefficients,
        resample=Image.Resampling.BILINEAR,
        fillcolor=_FILL,
    )


def _rotate(image: Image.Image, sign: float) -> Image.Image:
    degrees = sign * _strength(_DEGREES)
    return image.rotate(degrees, resample=Image.Resampling.BILINEAR, fillcolor=_FILL)


# Each takes an image and a sign; where a direction makes no sense the sign is not used.
_OPERATIONS: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    lambda image, sign: image,
    lambda image, sign: ImageOps.autocontrast(image),
    lambda image, sign: ImageOps.equalize(image),
    lambda image, sign: ImageEnhance.Brightness(image).enhance(_strength(_ENHANCEMENT)),
    lambda image, sign: ImageEnhance.Sharpness(image).enhance(_strength(_ENHANCEMENT)),
    lambda image, sign: _affine(image, 1, sign * _strength(_SHEAR), 0, 0, 1, 0),
    lambda image, sign: _affine(image, 1, 0, 0, sign * _strength(_SHEAR), 1, 0),
    lambda image, sign: _affine(image, 1, 0, sign * _strength(_SHIFT) * image.width, 0, 1, 0),
    lambda image, sign: _affine(image, 1, 0, 0, 0, 1, sign * _strength(_SHIFT) * image.height),
    _rotate,
)
