"""The features of a run's images: found in a cache that has them all, or encoded first.

Neither torch nor a tower is needed for a cache that is full, once its key is remembered.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.errors import SettingsError
from ademvl.machine.devices import set_threads
from ademvl.storage.files import write_json
from ademvl.vision.features.cache import EnsureReport, FeatureCache
from ademvl.vision.features.known_keys import known_key
from ademvl.vision.features.process_group import ProcessGroup
from ademvl.vision.features.reader import FeatureReader

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


def build_feature_cache(
    run_dir: Path, output: Path, *, threads: int | None = None, progress: bool = True
) -> None:
    """Encode all images that a run trains on and is evaluated on, and write what they take.

    Args:
        run_dir: directory of a run with cached features.
        output: report to write (JSON); the same whatever was in the cache before.
        threads: of torch on the CPU; None leaves its own choice.
        progress: show progress bars, on a terminal only.

    Raises:
        SettingsError: the run encodes pixels online.
        DataError: the data set or an image is missing or damaged.
        CacheError: the cache cannot be written.
    """
    run = read_run(run_dir)
    if run.features.mode != "cached":
        raise SettingsError(f"{run_dir}: features.mode is {run.features.mode}, expected cached")
    images = run_images(run)
    cache, report = _cache_and_report(run, images, progress=progress)
    if report is None:
        from ademvl.vision.features.extraction import extract_run_features

        set_threads(threads)
        report = extract_run_features(run, images, cache=cache, progress=progress)
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


def open_features(
    run: RunSettings,
    images: Sequence[Path],
    *,
    device: "torch.device | None" = None,
    progress: bool,
    processes: ProcessGroup | None = None,
) -> FeatureReader:
    """Return a reader of the features of a run's images; missing or damaged ones are encoded first.

    Args:
        images: image files, duplicates allowed.
        device: that encodes; None for the one that `ademvl.machine.devices` chooses.
        processes: those that all make this call, and share the work.

    Raises:
        DataError: images are missing or do not decode, all listed at once.
        CacheError: the cache cannot be written.
    """
    cache, report = _cache_and_report(run, images, progress=progress, processes=processes)
    if cache is not None and report is not None:
        return cache.open(images)
    from ademvl.vision.features.extraction import ensure_features

    return ensure_features(
        run, images, device=device, cache=cache, progress=progress, processes=processes
    )


def _cache_and_report(
    run: RunSettings,
    images: Sequence[Path],
    *,
    progress: bool,
    processes: ProcessGroup | None = None,
) -> tuple[FeatureCache | None, EnsureReport | None]:
    """Return a run's cache where its key is known, and what it holds where that is all."""
    key = known_key(run)
    # Processes must go on alike: one of them may have just made the others remember the key.
    keys = processes.gather(key) if processes else [key]
    if key is None or None in keys:
        return None, None
    cache = FeatureCache(Path(run.features.cache_dir), key, processes=processes)
    return cache, cache.find(images, progress=progress)


def run_images(run: RunSettings) -> list[Path]:
    """Return the images of a run's training and evaluation splits, each once, in data set order.

    Raises:
        DataError: the data set is missing or malformed.
    """
    from ademvl.tasks.registry import evaluation_examples, training_examples

    examples = [*training_examples(run), *evaluation_examples(run)]
    return list(dict.fromkeys(example.image for example in examples if example.image is not None))
