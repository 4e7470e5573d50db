"""What a study takes on disk: data, weights, features, states and results."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ademvl.config.run import RELEASED, TRAINED, RunSettings
from ademvl.config.study import Study
from ademvl.planning.schedule import feature_cache_bytes
from ademvl.planning.sizes import ModelSizes
from ademvl.planning.workload import Workload

Job = tuple[RunSettings, ModelSizes, Workload]
"""A training or an evaluation of a study: its settings, and what it has to do."""
_STATES_KEPT = 2
_PREDICTION_BYTES = 200  # a line of a predictions file, measured on the mini study
_MADE_ITEM_BYTES = 4_800
"""A question's folder and texts, or a captioned image: 87 to 89 MB for 18,200 of both in the mini
study and with many shapes, where questions share images; without sharing up to 6,300."""
_KEPT_RESULTS_BYTES = 2 << 20  # metrics, provenance, scores, logs and figures of a run


@dataclass(frozen=True)
class DiskUse:
    """A part of what a study takes on disk.

    Attributes:
        what: in a word or two.
        place: folder.
        bytes: when everything is there.
        is_exact: whether the size is known rather than estimated.
        is_known: false where some of it has a size that nobody knows before it is fetched.
    """

    what: str
    place: str
    bytes: int
    is_exact: bool = False
    is_known: bool = True


def source_disk(study: Study) -> list[DiskUse]:
    """Return downloads and what is unpacked from them, by source; nothing for data made here."""
    from ademvl.data.acquisition.plan import plan_sources

    settings = study.settings
    is_local = all(dataset.is_mini for dataset in settings.datasets.values())
    fetches = settings.backbones or settings.downloads.extra_sources
    if is_local and not fetches and not any(run.adapter == RELEASED for run in study.runs):
        return []
    found = []
    for plan in plan_sources(study):
        archives = [file for file in plan.source.files if file.name in plan.archives]
        fetched = sum(file.total_bytes for file in plan.files)
        is_exact = all(file.is_exact for file in plan.files)
        is_known = all(file.total_bytes for file in plan.files)
        folder = str(plan.downloads_dir)
        found.append(DiskUse(f"{plan.name}, fetched", folder, fetched, is_exact, is_known))
        if archives:
            unpacked = sum(file.unpacked_bytes for file in archives)
            is_known = all(file.unpacked_bytes for file in archives)
            place = str(plan.unpacked_dir)
            found.append(DiskUse(f"{plan.name}, unpacked", place, unpacked, is_known=is_known))
    return found + _converted_disk(study)


def _converted_disk(study: Study) -> list[DiskUse]:
    """Return releases of Meta in the layout of transformers: as large as the shards."""
    return [
        DiskUse(
            f"{name}, converted",
            f"{study.settings.shared_dir}/converted/{name}",
            sum(path.stat().st_size for path in Path(weights.existing).glob("consolidated.*.pth")),
        )
        for name, weights in study.settings.backbones.items()
        if weights.is_meta
    ]


def made_data_disk(study: Study) -> list[DiskUse]:
    """Return data sets that are made here."""
    found = []
    for name, dataset in study.settings.datasets.items():
        if dataset.is_mini:
            questions = sum(
                getattr(dataset, f"{split}_questions") for split in ("train", "val", "test")
            )
            images = sum(
                getattr(dataset, f"caption_{split}_images") for split in ("train", "val", "test")
            )
            place = f"{study.settings.shared_dir}/data/{name}"
            size = (questions + images) * _MADE_ITEM_BYTES
            found.append(DiskUse(f"{name}, made here", place, size))
    return found


def cached_features(jobs: Iterable[Job]) -> list[tuple[RunSettings, ModelSizes, int]]:
    """Return the distinct features that a study caches: who reads them, and of how many images."""
    found: dict[object, tuple[RunSettings, ModelSizes, dict[str, int]]] = {}
    for run, sizes, workload in jobs:
        if run.features.mode != "cached" or run.images != "shown":
            continue
        tower = run.backbones.tower, run.backbones.tower_weights, run.backbones.tower_cls
        what = run.data_dir, run.features, tower, run.method.tower_states
        _, _, splits = found.setdefault(what, (run, sizes, {}))
        splits["train"] = workload.training.images
        splits[run.evaluation.split] = workload.evaluation.images
    return [(run, sizes, sum(splits.values())) for run, sizes, splits in found.values()]


def feature_disk(jobs: Iterable[Job]) -> list[DiskUse]:
    """Return feature caches, one for all runs that read the same features."""
    found = []
    for run, sizes, num_images in cached_features(jobs):
        what = f"features of {Path(run.data_dir).parent.name}/{run.task} for {run.method.name}"
        size = feature_cache_bytes(run, sizes, num_images)
        found.append(DiskUse(what, run.features.cache_dir, size))
    return found


def result_disk(study: Study, jobs: Iterable[Job]) -> list[DiskUse]:
    """Return what all jobs leave, and the resumable states of those in training.

    A state holds the trained parameters, two moments of each and their averages, in fp32.
    """
    kept, states = 0, 0
    for run, sizes, workload in jobs:
        kept += 4 * sizes.trained + _KEPT_RESULTS_BYTES
        kept += workload.evaluation.items * _PREDICTION_BYTES
        if run.adapter == TRAINED:
            averages = run.optimization.weight_averaging != "none"
            states += _STATES_KEPT * (16 if averages else 12) * sizes.trained
    place = str(study.results_dir)
    return [
        DiskUse("adapters, predictions, logs", place, kept),
        DiskUse("states while training, at most", place, states),
    ]
