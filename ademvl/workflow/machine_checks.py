"""What this machine lacks for the work on a study: room on its disks, memory, GPUs, time."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from ademvl.config.dataset import DatasetSettings
from ademvl.config.methods_by_name import default_method
from ademvl.config.run import RunSettings
from ademvl.config.study import Study
from ademvl.errors import AdemvlError, collect
from ademvl.machine.free_memory import FreeMemory, free_host_memory
from ademvl.planning.adem_formula import formula_of
from ademvl.planning.cpu_time import expected_days
from ademvl.planning.devices import present_gpu
from ademvl.planning.disk import DiskUse, feature_disk, result_disk
from ademvl.planning.fit import RunMemory, check_fits, fit_of, model_sizes
from ademvl.planning.memory import CUDA_CONTEXT_BYTES
from ademvl.planning.sizes import ModelSizes
from ademvl.planning.workload import Workload, workload_of
from ademvl.storage.byte_sizes import format_bytes, gib
from ademvl.workflow.work import Work

LONGEST_CPU_DAYS = 14.0
"""A training that would take longer on the processor is refused where there is no GPU."""


def disk_problems(study: Study, work: Work, free: Callable[[Path], int]) -> Iterator[str]:
    """Say on which disks there is no room for all that the work will write."""
    needed: dict[Path, list[tuple[str, int]]] = {}
    shared = Path(study.settings.shared_dir)
    fetched = sum(source.missing_bytes + source.unpacked_bytes for source in work.sources)
    for use in (DiskUse("downloads", str(shared), fetched), *_made(study, work)):
        folder = _existing(Path(use.place))
        needed.setdefault(_mount(folder), []).append((use.what, use.bytes))
    for mount, uses in needed.items():
        total, there = sum(size for _, size in uses), free(mount)
        if total > there:
            parts = ", ".join(f"{what} {format_bytes(size)}" for what, size in uses if size)
            yield (
                f"disk at {mount}: about {format_bytes(total)} are needed ({parts}), "
                f"{format_bytes(there)} are free. Free some space, or set shared_dir or "
                "results_dir to a larger disk"
            )


def _made(study: Study, work: Work) -> Iterator[DiskUse]:
    sized: list[tuple[RunSettings, ModelSizes, Workload]] = []
    for run in work.runs:
        load = _workload(study, run)
        try:
            sized += [(run, model_sizes(run), load)] if load else []
        except AdemvlError:
            continue  # its models are told elsewhere
    yield from feature_disk(sized)
    yield from result_disk(study, sized)


def device_problems(study: Study, work: Work) -> Iterator[str]:
    """Look at memory and GPUs: a training that a machine cannot do must not begin by downloads."""
    from ademvl.machine.devices import wants_gpu
    from ademvl.machine.gpus import visible_gpus

    limit = study.settings.gpus
    trainings = list({run.name: run for run in work.trainings}.values())
    wanting = [run for run in trainings if wants_gpu(run.backbones)]
    small = [run for run in trainings if not wants_gpu(run.backbones)]
    yield from _memory_problems(study, small, free_host_memory())
    if not any(wants_gpu(run.backbones) for run in work.runs):
        return
    try:
        has_gpu = bool(visible_gpus(os.environ)) and limit != 0
    except AdemvlError as error:
        yield str(error)
        return
    if has_gpu:
        if gpu := present_gpu():
            there = FreeMemory("cuda", gpu.name, gpu.memory_bytes - CUDA_CONTEXT_BYTES)
            yield from _memory_problems(study, wanting, there)
        return
    if limit not in ("all", 0):
        asked = list(limit) if isinstance(limit, tuple) else limit
        yield (
            f"gpus: {asked}, but jobs can use no GPU of this machine (nvidia-smi shows none, or "
            "CUDA_VISIBLE_DEVICES allows none). `gpus: all` computes on the processor then"
        )
    if hopeless := [f"{run.name} ({why})" for run in wanting if (why := _too_large(study, run))]:
        yield (
            f"no GPU is usable here, and the processor cannot do these trainings: "
            f"{', '.join(hopeless)}. Use a machine with a GPU or a cluster (docs/clusters.md), or "
            "a smaller model"
        )


def _memory_problems(study: Study, runs: list[RunSettings], there: FreeMemory) -> Iterator[str]:
    """Yield what does not fit, in full for the first run."""
    refused: dict[str, str] = {}
    for run in runs:
        load = _workload(study, run)
        if load is not None:
            images = load.training.images
            found = collect(
                partial(check_fits, run, there, load.training.known_rows, num_images=images)
            )
            refused.update(dict.fromkeys([run.name] if found else [], "".join(found)))
    for name, text in list(refused.items())[:1]:
        others = [other for other in refused if other != name]
        yield text + (f"\nThe same is true of {', '.join(others)}" if others else "")


def _too_large(study: Study, run: RunSettings) -> str:
    """Say why a run cannot be trained on the processor; empty where it can, or is not known.

    The frozen models decide it, so that the default method, whose costs are a formula, stands for
    those that would have to be measured. Frozen models that no formula covers are not looked at, as
    a start is no time to measure them: a training looks at its own memory.
    """
    run = dataclasses.replace(run, method=default_method())
    load = _workload(study, run)
    if load is None:
        return ""
    try:
        sizes = model_sizes(run)
        if formula_of(run.method, sizes.llm, sizes.vision, online=sizes.online) is None:
            return ""
        memory = RunMemory(run, "cpu", load.training.known_rows, load.training.images).predict()
        there = free_host_memory()
        if fit_of(memory.total, there.bytes) == "does not fit":
            return f"{gib(memory.total)} of memory, {gib(there.bytes)} are free"
        days = expected_days(run, _dataset_of(study, run))
    except AdemvlError:
        return ""
    return f"{days:,.0f} days" if days > LONGEST_CPU_DAYS else ""


def _workload(study: Study, run: RunSettings) -> Workload | None:
    try:
        return workload_of(run, _dataset_of(study, run))
    except AdemvlError:
        return None  # told where the run's data is read


def _dataset_of(study: Study, run: RunSettings) -> DatasetSettings:
    return study.settings.datasets[Path(run.data_dir).parent.name]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists()).absolute()


def _mount(folder: Path) -> Path:
    """Return the highest folder of the same disk."""
    device = folder.stat().st_dev
    same = [path for path in (folder, *folder.parents) if path.stat().st_dev == device]
    return same[-1]
