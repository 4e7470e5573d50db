"""Encodes the images of a data set through a frozen vision tower into the feature cache.

The tower always sees full batches of one shape, so that the rounding of an image's features does
not depend on which images come with it.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ademvl.config.method import TowerStates
from ademvl.config.run import PRECISION_BYTES, RunSettings
from ademvl.data.image_files import check_decodable
from ademvl.data.images import Preprocessing, load_pixels, preprocessing_for
from ademvl.errors import DataError
from ademvl.machine.devices import compute_device
from ademvl.vision.features.cache import EnsureReport, FeatureCache
from ademvl.vision.features.image_digests import THREADS
from ademvl.vision.features.known_keys import remember_key
from ademvl.vision.features.namespace import FeatureKey
from ademvl.vision.features.process_group import ProcessGroup
from ademvl.vision.features.reader import FeatureReader

BATCH_SIZE = 32


class FeatureTower(Protocol):
    """The part of a vision tower that is needed here; a `torch.nn.Module` in practice."""

    @property
    def fingerprint(self) -> str:
        """Architecture, activation and checksum of the weights."""

    def encode(self, pixels: Tensor, states: TowerStates) -> Tensor:
        """Return features (B, N, C) of pixels (B, 3, H, W)."""

    def describe(self, states: TowerStates) -> str:
        """Say in words which states these are."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights, whose device and dtype pixels are brought to."""

    def modules(self) -> Iterator[nn.Module]:
        """Return all parts, which are put into evaluation mode for the while."""

    def eval(self) -> nn.Module:
        """Set evaluation mode."""


def extract_run_features(
    run: RunSettings,
    images: Sequence[Path],
    *,
    cache: FeatureCache | None = None,
    progress: bool,
) -> EnsureReport:
    """Bring the features of a run's images into its cache; see `ensure_features`."""
    return _extraction_of(run, None, None, cache).fill(images, progress=progress)


def ensure_features(
    run: RunSettings,
    images: Sequence[Path],
    *,
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    progress: bool,
    processes: ProcessGroup | None = None,
) -> FeatureReader:
    """Return a reader of the features of a run's images; missing or damaged ones are encoded first.

    Args:
        run: whose method says which states of the tower are kept.
        images: image files, duplicates allowed.
        device: that encodes; None for the one that `ademvl.machine.devices` chooses.
        cache: that was looked into before and knows what images hold; None opens one.
        processes: those that all make this call, and share the work.

    Raises:
        DataError: images are missing or do not decode, all listed at once.
        CacheError: the cache cannot be written.
    """
    extraction = _extraction_of(run, device, processes, cache)
    extraction.fill(images, progress=progress)
    return extraction.cache.open(images)


@dataclass(frozen=True)
class Extraction:
    """What encodes images, and where to.

    Attributes:
        cache: of the key that tower and preprocessing have.
        tower: frozen, without adapters; runs on the device and in the dtype of its weights.
        states: of the tower that are kept.
        preprocessing: from file to pixels; part of the cache's key.
        image_bytes: size of an image's features.
    """

    cache: FeatureCache
    tower: FeatureTower
    states: TowerStates
    preprocessing: Preprocessing
    image_bytes: int = 0

    def fill(
        self, images: Sequence[Path], *, batch_size: int = BATCH_SIZE, progress: bool
    ) -> EnsureReport:
        """Encode the images that the cache lacks.

        Batches are filled up to `batch_size`, so that the tower always sees one shape: which images
        come together, and so what others have encoded before, cannot change features' rounding.

        Args:
            images: image files, duplicates allowed.
            batch_size: images that go through the tower at once.
            progress: show progress bars on a terminal, else a line in the log now and then.

        Raises:
            DataError: images are missing or do not decode, all listed at once.
            CacheError: the cache cannot be written.
        """
        with _evaluation_mode(self.tower), ThreadPoolExecutor(THREADS) as pool:
            encoder = _Encoder(self, images, pool, batch_size)
            try:
                return self.cache.ensure(
                    images,
                    encoder.encode,
                    batch_size=batch_size,
                    progress=progress,
                    announce=encoder.decode_ahead,
                    image_bytes=self.image_bytes,
                )
            finally:
                pool.shutdown(cancel_futures=True)


def _extraction_of(
    run: RunSettings,
    device: torch.device | None,
    processes: ProcessGroup | None,
    cache: FeatureCache | None,
) -> Extraction:
    from ademvl.vision.tower import load_tower

    tower = load_tower(run.backbones).to(device or compute_device(run.backbones))
    preprocessing = preprocessing_for(run.task, tower.image_size, run.features.normalization)
    states, precision = run.method.tower_states, run.features.precision
    key = FeatureKey(preprocessing.identity(), tower.fingerprint, precision, tower.describe(states))
    remember_key(run, key)
    num_tokens, width = tower.features_shape(states)
    image_bytes = num_tokens * width * PRECISION_BYTES[precision]
    if cache is None or cache.key != key:
        cache = FeatureCache(Path(run.features.cache_dir), key, processes=processes)
    return Extraction(cache, tower, states, preprocessing, image_bytes)


class _Encoder:
    """Decodes images in threads while the tower works on those decoded before."""

    def __init__(
        self,
        parts: Extraction,
        images: Sequence[Path],
        pool: ThreadPoolExecutor,
        batch_size: int,
    ) -> None:
        self._parts = parts
        self._images = images
        self._pool = pool
        self._batch_size = batch_size
        self._decoded: dict[Path, Future[Tensor]] = {}

    def decode_ahead(self, paths: Sequence[Path]) -> None:
        """Start decoding images that `encode` will be asked for."""
        for path in paths:
            self._decoded[path] = self._pool.submit(load_pixels, path, self._parts.preprocessing)

    def encode(self, paths: Sequence[Path]) -> Tensor:
        """Return features (n, N, C) of images that were announced.

        Raises:
            DataError: one does not decode; lists all of the data set that do not.
        """
        try:
            pixels = torch.stack([self._decoded.pop(path).result() for path in paths])
        except DataError:
            check_decodable(dict.fromkeys(self._images))
            raise
        weights = next(self._parts.tower.parameters())
        filled = pixels.new_zeros((self._batch_size, *pixels.shape[1:]))
        filled[: len(paths)] = pixels
        with torch.inference_mode():
            pixels = filled.to(weights.device, weights.dtype)
            features = self._parts.tower.encode(pixels, self._parts.states)
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
