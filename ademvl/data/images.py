"""Turns image files into the pixels that a vision tower reads.

Images are squashed to a square: the aspect ratio is not kept and nothing is cropped, as in the
reference implementation. open_clip's own preprocessing crops and is not used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ademvl.config.run import Normalization
from ademvl.config.tasks import TaskName, facts_of
from ademvl.data.augmentation import augment_for_captions
from ademvl.data.image_files import open_rgb, resize_to_square

MeanStd = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET_MEAN_STD: MeanStd = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP_MEAN_STD: MeanStd = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
SIGLIP_MEAN_STD: MeanStd = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_MEAN_STD: Mapping[str, MeanStd] = {
    "clip": CLIP_MEAN_STD,
    "imagenet": IMAGENET_MEAN_STD,
    "siglip": SIGLIP_MEAN_STD,
}


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before the tower.

    Attributes:
        size: side of the square in pixels.
        mean, std: of red, green and blue in [0, 1], subtracted and divided by.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def identity(self) -> str:
        """Return a text that differs wherever the pixels would: part of the cache's key."""
        return f"rgb-squash-bicubic-{self.size}-mean{self.mean}-std{self.std}".replace(" ", "")


def preprocessing_for(
    task: TaskName, image_size: int, normalization: Normalization = "by_task"
) -> Preprocessing:
    """Return a task's preprocessing.

    By task, mean and std are of CLIP for captions and of ImageNet for all else: so the reference
    implementation does, though the tower is CLIP's in both cases.
    """
    if normalization == "by_task":
        normalization = facts_of(task).normalization
    mean, std = _MEAN_STD[normalization]
    return Preprocessing(image_size, mean, std)


def load_pixels(source: Path | bytes, preprocessing: Preprocessing) -> Tensor:
    """Decode an image and return its normalised pixels, (3, H, W) fp32 (golden case H).

    Raises:
        DataError: the image is missing or does not decode; names the file.
    """
    return normalize_levels(load_levels(source, preprocessing), preprocessing)


def load_levels(source: Path | bytes, preprocessing: Preprocessing) -> Tensor:
    """Decode an image and return its pixels before normalisation, (3, H, W) uint8.

    Raises:
        DataError: the image is missing or does not decode; names the file.
    """
    return _levels_of(resize_to_square(open_rgb(source), preprocessing.size))


def load_augmented_pixels(
    source: Path | bytes, preprocessing: Preprocessing, generator: torch.Generator
) -> Tensor:
    """Decode an image for caption training: as `load_pixels`, but randomly changed.

    Raises:
        DataError: the image is missing or does not decode; names the file.
    """
    image = augment_for_captions(open_rgb(source), size=preprocessing.size, generator=generator)
    return normalize_levels(_levels_of(image), preprocessing)


def _levels_of(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()  # (3, H, W)


def normalize_levels(levels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return pixels (..., 3, H, W) as fp32: divided by 255, mean and std applied."""
    mean = torch.tensor(preprocessing.mean).view(3, 1, 1)
    std = torch.tensor(preprocessing.std).view(3, 1, 1)
    return levels.to(torch.float32).div_(255).sub_(mean).div_(std)
