"""Visual inputs of a batch, cached or online: one way for training and for evaluation.

Cached: features are encoded once and read from the feature cache. Online: pixels are decoded, and
the model's own tower encodes them in every forward pass, because adapters inside it are trained.
What is given lies on the CPU; the model moves it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ademvl.config.run import RunSettings
from ademvl.errors import DataError, list_findings

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.data.images import Preprocessing
    from ademvl.vision.features.process_group import ProcessGroup
    from ademvl.vision.features.reader import FeatureReader
    from ademvl.vision.tower import VisionTower

MAX_PIXEL_BYTES = 512 << 20
_MAX_DECODERS = 8


class VisualSource(Protocol):
    """Gives the visual input of each batch."""

    def for_batch(self, batch: "Batch", *, epoch: int = 0) -> Tensor | None:
        """Return one entry for each image of the batch, in row order; None without any image.

        Features are (B_img, N, C), pixels (B_img, 3, H, W). Only randomly changed pixels
        depend on the epoch, counted from 0.
        """


class NoImages:
    """For runs that see no image, such as the text-only control."""

    def for_batch(self, batch: "Batch", *, epoch: int = 0) -> None:
        """Return None."""


class CachedFeatures:
    """Reads the features of a batch's images from the cache."""

    def __init__(self, reader: "FeatureReader") -> None:
        self._reader = reader

    def for_batch(self, batch: "Batch", *, epoch: int = 0) -> Tensor | None:
        """Return features (B_img, N, C) in the cache's precision."""
        paths = [path for path in batch.images if path is not None]
        return self._reader.read(paths) if paths else None


class OnlinePixels:
    """Decodes the images of a batch in threads, and keeps decoded ones while there is room.

    They are kept as bytes, a quarter of their size as pixels. Nothing is evicted: epochs visit
    images in ever new orders, so a fixed kept part serves as many hits as any other, without the
    churn.

    Args:
        load: gives an image before normalisation, (3, H, W) uint8.
        normalize: makes pixels of a batch of them.
        max_bytes: kept at most.
    """

    def __init__(
        self,
        load: Callable[[Path], Tensor],
        normalize: Callable[[Tensor], Tensor],
        *,
        max_bytes: int = MAX_PIXEL_BYTES,
    ) -> None:
        self._load = load
        self._normalize = normalize
        self._free_bytes = max_bytes
        self._kept: dict[Path, Tensor] = {}
        self._pool = _decoders()

    def for_batch(self, batch: "Batch", *, epoch: int = 0) -> Tensor | None:
        """Return pixels (B_img, 3, H, W), fp32, normalised."""
        items = {path: item_id for item_id, path in _shown(batch)}
        paths = [path for _, path in _shown(batch)]
        if not paths:
            return None
        missing = [path for path in items if path not in self._kept]
        loads = self._pool.map(lambda path: self._levels(items[path], path), missing)
        decoded = dict(zip(missing, loads, strict=True))
        levels = torch.stack([decoded[p] if p in decoded else self._kept[p] for p in paths])
        for path, image in decoded.items():
            if image.nbytes <= self._free_bytes:
                self._kept[path] = image
                self._free_bytes -= image.nbytes
        return self._normalize(levels)

    def _levels(self, item_id: str, path: Path) -> Tensor:
        with _naming(item_id):
            return self._load(path)


def online_pixels(
    preprocessing: "Preprocessing", *, max_bytes: int = MAX_PIXEL_BYTES
) -> OnlinePixels:
    """Return the pixels of any image files, of which `max_bytes` are kept at most."""
    from ademvl.data.images import load_levels, normalize_levels

    return OnlinePixels(
        lambda path: load_levels(path, preprocessing),
        lambda levels: normalize_levels(levels, preprocessing),
        max_bytes=max_bytes,
    )


def _shown(batch: "Batch") -> list[tuple[str, Path]]:
    """Return id and image of the items that have one."""
    items = zip(batch.item_ids, batch.images, strict=True)
    return [(item_id, path) for item_id, path in items if path is not None]


@contextmanager
def _naming(item_id: str) -> Iterator[None]:
    """Let errors about an image say whose it is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"item {item_id}: {error}") from error


def _decoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MAX_DECODERS, len(os.sched_getaffinity(0))))


class AugmentedPixels:
    """Decodes the images of a batch and changes each at random, anew in every epoch.

    What an item's image becomes depends on seed, epoch and item alone: not on the batch, nor on
    what came before, so a resumed training sees the same pixels.

    Args:
        load: gives the changed pixels of an image, drawn from a generator.
        seed: of the run.
    """

    def __init__(self, load: "Callable[[Path, torch.Generator], Tensor]", *, seed: int) -> None:
        self._load = load
        self._seed = seed
        self._pool = _decoders()

    def for_batch(self, batch: "Batch", *, epoch: int = 0) -> Tensor | None:
        """Return pixels (B_img, 3, H, W), fp32, normalised."""
        items = _shown(batch)
        pixels = self._pool.map(lambda item: self._pixels(item[0], item[1], epoch), items)
        return torch.stack(list(pixels)) if items else None

    def _pixels(self, item_id: str, path: Path, epoch: int) -> Tensor:
        from ademvl.data.augmentation import augmentation_generator

        generator = augmentation_generator(seed=self._seed, epoch=epoch, item_id=item_id)
        with _naming(item_id):
            return self._load(path, generator)


def open_visual_source(
    run: RunSettings,
    images: Sequence[Path],
    *,
    tower: "VisionTower | None",
    device: torch.device,
    progress: bool,
    training: bool = False,
    processes: "ProcessGroup | None" = None,
) -> VisualSource:
    """Prepare the visual inputs of `images` in the run's feature mode.

    Args:
        images: all that batches will ask for.
        tower: that online pixels are sized for; not used in cached mode.
        device: on which features that are missing in the cache are encoded.
        training: change images at random where the run's settings say so.
        processes: those that all make this call, and share what there is to read and to encode.

    In cached mode every image is in the cache when this returns. Online, images are decoded when a
    batch asks for them; that all files are there is made sure first.

    Raises:
        DataError: images are missing, all listed at once, or do not decode.
        CacheError: the cache cannot be written.
    """
    if not images:
        return NoImages()
    if run.features.mode == "cached":
        from ademvl.vision.features.whole import open_features

        reader = open_features(run, images, device=device, progress=progress, processes=processes)
        return CachedFeatures(reader)
    from ademvl.data.image_files import missing_image_findings
    from ademvl.data.images import load_augmented_pixels, preprocessing_for

    if findings := missing_image_findings((path.name, path) for path in images):
        remedy = f"Complete the data below {run.data_dir}, or make it again (`snakemake data`)."
        raise DataError(list_findings(f"{run.data_dir}: images are missing", findings, remedy))
    if tower is None:
        raise ValueError("online features need a tower")
    preprocessing = preprocessing_for(run.task, tower.image_size, run.features.normalization)
    if training and run.augments_images:
        return AugmentedPixels(
            lambda path, generator: load_augmented_pixels(path, preprocessing, generator),
            seed=run.seed,
        )
    return online_pixels(preprocessing)
