"""Visual inputs of a batch, cached or online: one way for training and for evaluation.

Cached: features are encoded once and read from the feature cache; the tower is loaded only when
something is missing. Online: pixels are decoded, and the model's own tower encodes them in every
forward pass, because adapters inside it are trained.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ademvl.config.run import RunSettings

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.model import VisionLanguageModel
    from ademvl.vision.cache import FeatureReader

MAX_PIXEL_BYTES = 512 << 20


class VisualSource(Protocol):
    """Gives the visual input of each batch."""

    def for_batch(self, batch: "Batch") -> Tensor | None:
        """Return one entry for each image of the batch, in row order; None without any image.

        Features are (B_img, 1 + G, C), pixels (B_img, 3, H, W).
        """


class CachedFeatures:
    """Reads the features of a batch's images from the cache."""

    def __init__(self, reader: "FeatureReader", device: torch.device) -> None:
        self._reader = reader
        self._device = device

    def for_batch(self, batch: "Batch") -> Tensor | None:
        """Return features (B_img, 1 + G, C) in the cache's precision."""
        paths = [path for path in batch.images if path is not None]
        return self._reader.read(paths).to(self._device) if paths else None


class OnlinePixels:
    """Decodes the images of a batch, and keeps decoded pixels while there is room.

    Nothing is evicted: epochs visit images in ever new orders, so a fixed kept part serves as
    many hits as any other, without the churn.
    """

    def __init__(
        self,
        load: Callable[[Path], Tensor],
        device: torch.device,
        *,
        max_bytes: int = MAX_PIXEL_BYTES,
    ) -> None:
        self._load = load
        self._device = device
        self._free_bytes = max_bytes
        self._kept: dict[Path, Tensor] = {}

    def for_batch(self, batch: "Batch") -> Tensor | None:
        """Return pixels (B_img, 3, H, W), fp32, normalised."""
        paths = [path for path in batch.images if path is not None]
        return (
            torch.stack([self._pixels(path) for path in paths]).to(self._device) if paths else None
        )

    def _pixels(self, path: Path) -> Tensor:
        pixels = self._kept.get(path)
        if pixels is None:
            pixels = self._load(path)
            if pixels.nbytes <= self._free_bytes:
                self._kept[path] = pixels
                self._free_bytes -= pixels.nbytes
        return pixels


def open_visual_source(
    run: RunSettings,
    model: "VisionLanguageModel",
    images: Sequence[Path],
    *,
    progress: bool,
) -> VisualSource:
    """Prepare the visual inputs of `images` in the run's feature mode.

    In cached mode every image is in the cache when this returns.

    Raises:
        DataError: an image is missing or does not decode.
        CacheError: the cache cannot be written.
    """
    device = next(model.parameters()).device
    if run.features.mode == "cached":
        from ademvl.vision.extraction import ensure_features

        return CachedFeatures(ensure_features(run, images, progress=progress), device)
    from ademvl.data.images import load_pixels, preprocessing_for

    preprocessing = preprocessing_for(run.task, model.tower.image_size)
    return OnlinePixels(lambda path: load_pixels(path, preprocessing), device)
