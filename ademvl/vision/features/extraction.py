"""Encodes the images of a data set through a frozen vision tower into the feature cache."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ademvl.config.run import Precision, RunSettings
from ademvl.data.image_files import check_decodable
from ademvl.data.images import Preprocessing, load_pixels, preprocessing_for
from ademvl.errors import DataError
from ademvl.machine.devices import compute_device
from ademvl.vision.features.cache import EnsureReport, FeatureCache, FeatureKey, FeatureReader
from ademvl.vision.features.image_digests import THREADS
from ademvl.vision.features.shards import torch_dtype

BATCH_SIZE = 32


class FeatureTower(Protocol):
    """The part of a vision tower that is needed here; a `torch.nn.Module` in practice."""

    @property
    def fingerprint(self) -> str:
        """Architecture, activation and checksum of the weights."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Return features (B, 1+G, C) of pixels (B, 3, H, W)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights, whose device and dtype pixels are brought to."""

    def modules(self) -> Iterator[nn.Module]:
        """Return all parts, which are put into evaluation mode for the while."""

    def eval(self) -> nn.Module:
        """Set evaluation mode."""


def extract_features(
    tower: FeatureTower,
    images: Sequence[Path],
    cache_dir: Path,
    precision: Precision,
    preprocessing: Preprocessing,
    *,
    batch_size: int = BATCH_SIZE,
    progress: bool,
) -> EnsureReport:
    """Bring the features of `images` into the cache.

    Batches are filled up to `batch_size`, so that the tower always sees one shape: which images
    come together, and so what others have encoded before, cannot change the rounding of features.

    Args:
        tower: frozen, without adapters; runs on the device and in the dtype of its weights.
        images: image files, duplicates allowed.
        cache_dir: folder of the cache.
        precision: dtype in which features are stored.
        preprocessing: from file to pixels.
        batch_size: images that go through the tower at once.
        progress: show progress bars on a terminal, else a line in the log now and then.

    Raises:
        DataError: images are missing or do not decode, all listed at once.
        CacheError: the cache cannot be written.
    """
    cache = FeatureCache(
        cache_dir, FeatureKey(preprocessing.identity(), tower.fingerprint, precision)
    )
    return _fill(cache, tower, images, preprocessing, batch_size=batch_size, progress=progress)


def extract_run_features(
    run: RunSettings, images: Sequence[Path], *, progress: bool
) -> EnsureReport:
    """Bring the features of a run's images into its cache; see `extract_features`."""
    return _parts(run, None).fill(images, progress=progress)


def ensure_features(
    run: RunSettings,
    images: Sequence[Path],
    *,
    device: torch.device | None = None,
    progress: bool,
) -> FeatureReader:
    """Return a reader of the features of a run's images; missing or damaged ones are encoded first.

    Args:
        run: its settings.
        images: image files, duplicates allowed.
        device: that encodes; None for the one that `ademvl.machine.devices` chooses.
        progress: show progress bars on a terminal.

    Raises:
        DataError: images are missing or do not decode, all listed at once.
        CacheError: the cache cannot be written.
    """
    parts = _parts(run, device)
    parts.fill(images, progress=progress)
    return parts.cache.open(images)


@dataclass(frozen=True)
class _Parts:
    """What encodes a run's images, and where to.

    Attributes:
        cache, tower, preprocessing: of the run.
        image_bytes: size of an image's features.
    """

    cache: FeatureCache
    tower: FeatureTower
    preprocessing: Preprocessing
    image_bytes: int

    def fill(self, images: Sequence[Path], *, progress: bool) -> EnsureReport:
        return _fill(
            self.cache,
            self.tower,
            images,
            self.preprocessing,
            batch_size=BATCH_SIZE,
            progress=progress,
            image_bytes=self.image_bytes,
        )


def _parts(run: RunSettings, device: torch.device | None) -> _Parts:
    from ademvl.vision.tower import load_tower

    tower = load_tower(run.backbones).to(device or compute_device(run.backbones))
    preprocessing = preprocessing_for(run.task, tower.image_size, run.features.normalization)
    key = FeatureKey(preprocessing.identity(), tower.fingerprint, run.features.precision)
    a_token = tower.width * torch_dtype(run.features.precision).itemsize
    image_bytes = (1 + tower.num_grid_tokens) * a_token
    cache = FeatureCache(Path(run.features.cache_dir), key)
    return _Parts(cache, tower, preprocessing, image_bytes)


def _fill(
    cache: FeatureCache,
    tower: FeatureTower,
    images: Sequence[Path],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    progress: bool,
    image_bytes: int = 0,
) -> EnsureReport:
    with _evaluation_mode(tower), ThreadPoolExecutor(THREADS) as pool:
        encoder = _Encoder(tower, images, preprocessing, pool, batch_size)
        try:
            return cache.ensure(
                images,
                encoder.encode,
                batch_size=batch_size,
                progress=progress,
                announce=encoder.decode_ahead,
                image_bytes=image_bytes,
            )
        finally:
            pool.shutdown(cancel_futures=True)


class _Encoder:
    """Decodes images in threads while the tower works on those decoded before."""

    def __init__(
        self,
        tower: FeatureTower,
        images: Sequence[Path],
        preprocessing: Preprocessing,
        pool: ThreadPoolExecutor,
        batch_size: int,
    ) -> None:
        self._tower = tower
        self._images = images
        self._preprocessing = preprocessing
        self._pool = pool
        self._batch_size = batch_size
        self._decoded: dict[Path, Future[Tensor]] = {}

    def decode_ahead(self, paths: Sequence[Path]) -> None:
        """Start decoding images that `encode` will be asked for."""
        for path in paths:
            self._decoded[path] = self._pool.submit(load_pixels, path, self._preprocessing)

    def encode(self, paths: Sequence[Path]) -> Tensor:
        """Return features (n, 1+G, C) of images that were announced.

        Raises:
            DataError: one does not decode; lists all of the data set that do not.
        """
        try:
            pixels = torch.stack([self._decoded.pop(path).result() for path in paths])
        except DataError:
            check_decodable(dict.fromkeys(self._images))
            raise
        weights = next(self._tower.parameters())
        filled = pixels.new_zeros((self._batch_size, *pixels.shape[1:]))
        filled[: len(paths)] = pixels
        with torch.inference_mode():
            features = self._tower.encode(filled.to(weights.device, weights.dtype))
        return features[: len(paths)]


@contextmanager
def _evaluation_mode(tower: FeatureTower) -> Iterator[None]:
    training = [module for module in tower.modules() if module.training]
    tower.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True  # not train(): parts of a tower may stay in evaluation mode
