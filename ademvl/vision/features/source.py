"""Visual inputs of a batch, cached or online: one way for training and for evaluation.

Cached: features are encoded once and read from the feature cache. Online: pixels are decoded, and
the model's own tower encodes them in every forward pass, because adapters inside it are trained.
What is given lies on the CPU; the model moves it.
"""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.storage.files import write_json

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.data.images import Preprocessing
    from ademvl.vision.features.reader import FeatureReader
    from ademvl.vision.tower import VisionTower

MAX_PIXEL_BYTES = 512 << 20
_MAX_DECODERS = 8

_log = logging.getLogger(__name__)


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
        paths = [path for path in batch.images if path is not None]
        if not paths:
            return None
        missing = [path for path in dict.fromkeys(paths) if path not in self._kept]
        decoded = dict(zip(missing, self._pool.map(self._load, missing), strict=True))
        levels = torch.stack([decoded[p] if p in decoded else self._kept[p] for p in paths])
        for path, image in decoded.items():
            if image.nbytes <= self._free_bytes:
                self._kept[path] = image
                self._free_bytes -= image.nbytes
        return self._normalize(levels)


def online_pixels(preprocessing: "Preprocessing") -> OnlinePixels:
    """Return the pixels of any image files."""
    from ademvl.data.images import load_levels, normalize_levels

    return OnlinePixels(
        lambda path: load_levels(path, preprocessing),
        lambda levels: normalize_levels(levels, preprocessing),
    )


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
        items = [
            (item_id, path)
            for item_id, path in zip(batch.item_ids, batch.images, strict=True)
            if path is not None
        ]
        pixels = self._pool.map(lambda item: self._pixels(item[0], item[1], epoch), items)
        return torch.stack(list(pixels)) if items else None

    def _pixels(self, item_id: str, path: Path, epoch: int) -> Tensor:
        from ademvl.data.augmentation import augmentation_generator

        generator = augmentation_generator(seed=self._seed, epoch=epoch, item_id=item_id)
        return self._load(path, generator)


def open_visual_source(
    run: RunSettings,
    images: Sequence[Path],
    *,
    tower: "VisionTower | None",
    device: torch.device,
    progress: bool,
    training: bool = False,
) -> VisualSource:
    """Prepare the visual inputs of `images` in the run's feature mode.

    Args:
        run: settings.
        images: all that batches will ask for.
        tower: that online pixels are sized for; not used in cached mode.
        device: on which features that are missing in the cache are encoded.
        progress: show bars on a terminal.
        training: change images at random where the run's settings say so.

    In cached mode every image is in the cache when this returns. Online, images are decoded when a
    batch asks for them; that all files are there is made sure first.

    Raises:
        DataError: images are missing, all listed at once, or do not decode.
        CacheError: the cache cannot be written.
    """
    if not images:
        return NoImages()
    if run.features.mode == "cached":
        from ademvl.vision.features.extraction import ensure_features

        reader = ensure_features(run, images, device=device, progress=progress)
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


def build_feature_cache(run_dir: Path, output: Path, *, progress: bool = True) -> None:
    """Encode all images that a run trains on and is evaluated on, and write what they take.

    Args:
        run_dir: directory of a run with cached features.
        output: report to write (JSON); the same whatever was in the cache before.
        progress: show progress bars, on a terminal only.

    Raises:
        SettingsError: the run encodes pixels online.
        DataError: the data set or an image is missing or damaged.
        CacheError: the cache cannot be written.
    """
    from ademvl.vision.features.extraction import extract_run_features

    run = read_run(run_dir)
    if run.features.mode != "cached":
        raise SettingsError(f"{run_dir}: features.mode is {run.features.mode}, expected cached")
    report = extract_run_features(run, run_images(run), progress=progress)
    _log.info("%d of %d images were encoded now", report.num_encoded, report.num_unique)
    write_json(
        output,
        {
            "cache_dir": run.features.cache_dir,
            "precision": run.features.precision,
            "num_images": report.num_images,
            "num_unique_images": report.num_unique,
            "bytes": report.bytes,
        },
    )


def run_images(run: RunSettings) -> list[Path]:
    """Return the images of a run's training and evaluation splits, each once, in data set order.

    Raises:
        DataError: the data set is missing or malformed.
    """
    from ademvl.data.examples import evaluation_examples, training_examples

    examples = [*training_examples(run), *evaluation_examples(run)]
    return list(dict.fromkeys(example.image for example in examples if example.image is not None))
