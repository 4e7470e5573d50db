"""The plan of a whole study: what each run takes, and all of them together."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import Study
from ademvl.errors import SettingsError
from ademvl.machine.devices import DeviceType, wants_gpu
from ademvl.planning.costs import costs_of
from ademvl.planning.devices import Gpu
from ademvl.planning.disk import (
    DiskUse,
    feature_disk,
    made_data_disk,
    result_disk,
    source_disk,
)
from ademvl.planning.fit import RunMemory, model_sizes, numerics_of, settings_that_fit
from ademvl.planning.memory import Memory, evaluation_memory
from ademvl.planning.method_costs import UnmeasurableError
from ademvl.planning.possible import refuse_impossible
from ademvl.planning.schedule import (
    UTILIZATION,
    Rate,
    RunFlops,
    Seconds,
    feature_flops,
    generation_seconds,
    new_tokens,
    run_flops,
    seconds_at,
    seconds_on,
)
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics
from ademvl.planning.workload import Workload, workload_of


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a study is planned for.

    Attributes:
        gpu: kind of GPU; None where none is present or named.
        count: GPUs that share each training.
        utilization: part of the GPU's matrix rate that is reached.
    """

    gpu: Gpu | None = None
    count: int = 1
    utilization: float = UTILIZATION

    def __post_init__(self) -> None:
        if not 0 < self.utilization <= 1:
            raise SettingsError(f"--utilization: {self.utilization}, expected 0 < part <= 1")
        if self.count < 1:
            raise SettingsError(f"--gpus: {self.count}, expected >= 1")


@dataclass(frozen=True)
class RunSeconds:
    """Time of one run with one seed.

    Attributes:
        training: on all GPUs together.
        evaluation: on one GPU.
        count: GPUs that share the training.
    """

    training: Seconds
    evaluation: Seconds
    count: int

    @property
    def wall(self) -> Seconds:
        """From the first step to the last answer."""
        return self.training + self.evaluation

    @property
    def gpu_seconds(self) -> Seconds:
        """Seconds of all GPUs added up."""
        return self.training.times(self.count) + self.evaluation


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What one run takes, for one seed unless said otherwise.

    Attributes:
        name: of the run.
        seeds: how many trainings or evaluations of it there are.
        trains: false where another run's adapter is evaluated.
        trained: parameters by part.
        frozen: parameters of the frozen models in memory.
        device: `cuda` or `cpu`.
        batch: the largest that goes through the models at once.
        memory: of one training process at its peak.
        is_checkpointed: whether the run uses gradient checkpointing.
        other_checkpointing: bytes of the peak with gradient checkpointing the other way round.
        evaluation_memory: bytes of the peak of evaluation.
        evaluation_rows: items that evaluation answers at once.
        flops: operations.
        seconds: of training and evaluation; None where unknown.
        rate: from which they follow, if it was measured.
        alternatives: settings that would fit, where the run does not fit the GPU.
    """

    name: str
    seeds: int
    trains: bool
    trained: Mapping[str, int]
    frozen: int
    device: str
    batch: MicroBatch
    memory: Memory
    is_checkpointed: bool
    other_checkpointing: int
    evaluation_memory: int
    evaluation_rows: int
    flops: RunFlops
    seconds: RunSeconds | None
    rate: Rate | None
    alternatives: tuple[str, ...] = ()

    @property
    def num_trained(self) -> int:
        """All trained parameters."""
        return sum(self.trained.values())

    @property
    def gpu_hours(self) -> Seconds | None:
        """Hours of GPUs for all seeds; None where the time is unknown."""
        if self.seconds is None or self.device == "cpu":
            return None
        return self.seconds.gpu_seconds.times(self.seeds / 3600)


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What a study takes.

    Attributes:
        study: its name.
        target: what it is planned for.
        runs: by run.
        unknown: runs that cannot be planned, with the reason.
        feature_flops: operations of filling the feature caches.
        disk: what it takes on disk, by part.
        assumptions: what was not read from data.
    """

    study: str
    target: Target
    runs: tuple[RunPlan, ...]
    unknown: Mapping[str, str]
    feature_flops: int
    disk: tuple[DiskUse, ...]
    assumptions: tuple[str, ...]

    @property
    def flops(self) -> float:
        """Operations of all runs and seeds, and of the feature caches."""
        return self.feature_flops + sum(run.flops.total * run.seeds for run in self.runs)

    @property
    def gpu_hours(self) -> Seconds | None:
        """Of all runs and seeds on the GPU; None without any."""
        known = [run.gpu_hours for run in self.runs if run.gpu_hours is not None]
        return sum(known[1:], known[0]) if known else None

    @property
    def wall(self) -> Seconds | None:
        """Time of all runs and seeds one after the other; None where any is unknown."""
        walls = [run.seconds.wall.times(run.seeds) for run in self.runs if run.seconds]
        return sum(walls[1:], walls[0]) if walls and len(walls) == len(self.runs) else None

    @property
    def disk_bytes(self) -> int:
        """All parts together."""
        return sum(part.bytes for part in self.disk)


def plan_study(study: Study, target: Target, rates: Mapping[str, Rate] | None = None) -> StudyPlan:
    """Predict what a study takes; nothing is loaded or written.

    Args:
        study: its settings.
        target: what it is planned for.
        rates: measured by `ademvl.probing.probe`, by name of the run; they decide about time.

    Raises:
        SettingsError: a run cannot be trained with its settings.
    """
    refuse_impossible(study)
    measured = rates or {}
    seeds = Counter(run.name for run in study.runs)
    first = {run.name: run for run in reversed(study.runs)}
    plans: list[RunPlan] = []
    unknown: dict[str, str] = {}
    assumptions: list[str] = []
    done: dict[str, tuple[RunSettings, ModelSizes, Workload]] = {}
    for name in seeds:
        run = first[name]
        try:
            sizes = model_sizes(run)
        except SettingsError as error:
            unknown[name] = str(error)
            continue
        workload = workload_of(run, study.settings.datasets[Path(run.data_dir).parent.name])
        if run.adapter == TRAINED:
            run.optimization.total_steps(workload.training.items)  # refuses too few
        rate = measured.get(name)
        try:
            plan = _plan_run(run, sizes, workload, target, seeds=seeds[name], rate=rate)
        except UnmeasurableError as error:
            unknown[name] = str(error)
            continue
        plans.append(plan)
        assumptions += workload.assumptions
        done[name] = (run, sizes, workload)
    every_run = [done[run.name] for run in study.runs if run.name in done]
    features = {_feature_key(run): (sizes, load) for run, sizes, load in every_run}
    return StudyPlan(
        study=study.name,
        target=target,
        runs=tuple(plans),
        unknown=unknown,
        feature_flops=sum(
            feature_flops(sizes, load.training.images + load.evaluation.images)
            for key, (sizes, load) in features.items()
            if key is not None
        ),
        disk=(
            *source_disk(study),
            *made_data_disk(study),
            *feature_disk(every_run),
            *result_disk(study, every_run),
        ),
        assumptions=tuple(dict.fromkeys(assumptions)),
    )


def _feature_key(run: RunSettings) -> object | None:
    if run.features.mode != "cached" or run.images != "shown":
        return None
    return run.data_dir, run.features, run.backbones.tower, run.backbones.tower_weights


def _plan_run(
    run: RunSettings,
    sizes: ModelSizes,
    workload: Workload,
    target: Target,
    *,
    seeds: int,
    rate: Rate | None,
) -> RunPlan:
    device: DeviceType = "cuda" if wants_gpu(run.backbones) else "cpu"
    trains, numerics = run.adapter == TRAINED, numerics_of(run)
    predicted = RunMemory(run, device, workload.training.known_rows, workload.training.images)
    batch = predicted.largest_batch()
    flops = run_flops(run, sizes, numerics, workload, trains=trains, devices=target.count)
    seconds = None
    if rate is not None:
        training, evaluation = (
            seconds_at(rate.flops_per_second, work) for work in (flops.training, flops.evaluation)
        )
        seconds = RunSeconds(training.times(flops.busiest), evaluation, target.count)
    elif target.gpu is not None and device == "cuda":
        seconds = run_seconds(run, sizes, numerics, flops, workload, target)
    memory = predicted.predict()
    asked = largest_evaluation_batch(run, workload)
    return RunPlan(
        name=run.name,
        seeds=seeds,
        trains=trains,
        trained=costs_of(sizes).trained(),
        frozen=sizes.llm.parameters + sizes.online * sizes.vision.parameters,
        device=device,
        batch=batch,
        memory=memory,
        other_checkpointing=predicted.with_checkpointing(on=not numerics.checkpointing).total,
        is_checkpointed=numerics.checkpointing,
        evaluation_memory=evaluation_memory(
            sizes,
            numerics,
            asked,
            new_tokens=new_tokens(run),
            device=device,
        ),
        evaluation_rows=asked.rows,
        flops=flops,
        seconds=seconds,
        rate=rate,
        alternatives=_alternatives(run, target, workload, needed=memory.total) if trains else (),
    )


def _alternatives(
    run: RunSettings, target: Target, workload: Workload, *, needed: int
) -> tuple[str, ...]:
    """Return settings with which a run that is too large for the GPU would fit."""
    if target.gpu is None or not wants_gpu(run.backbones) or needed <= target.gpu.memory_bytes:
        return ()
    found = settings_that_fit(
        run, target.gpu.memory_bytes, device="cuda", rows=workload.training.known_rows
    )
    return tuple(map(str, found)) or ("none of the settings known here",)


def largest_evaluation_batch(run: RunSettings, workload: Workload) -> MicroBatch:
    """Return the largest batch of prompts that evaluation may answer at once."""
    size = min(run.evaluation.batch_size, workload.evaluation.items)
    longest = max((row.width for row in workload.evaluation.longest), default=run.prompts.window)
    images = size if any(row.has_image for row in workload.evaluation.rows) else 0
    return MicroBatch(rows=size, image_rows=images, width=longest, scored=size)


def run_seconds(
    run: RunSettings,
    sizes: ModelSizes,
    numerics: Numerics,
    flops: RunFlops,
    workload: Workload,
    target: Target,
) -> RunSeconds:
    """Predict the time of a run on a GPU; evaluation uses one of them."""
    if target.gpu is None:
        raise ValueError("no GPU to predict the time of")
    training = seconds_on(target.gpu, numerics, flops.training, utilization=target.utilization)
    answers = seconds_on(target.gpu, numerics, flops.evaluation, utilization=target.utilization)
    reading = generation_seconds(target.gpu, run, sizes, numerics, workload.evaluation.items)
    evaluation = Seconds(*(max(each, reading) for each in dataclasses.astuple(answers)))
    return RunSeconds(training.times(flops.busiest), evaluation, target.count)


def to_plain(plan: StudyPlan) -> dict[str, object]:
    """Return a plan as plain values for JSON, with its totals."""
    plain = dataclasses.asdict(plan)
    for run, described in zip(plan.runs, plain["runs"], strict=True):
        described["num_trained"] = run.num_trained
        described["memory"]["total"] = run.memory.total
        described["flops"]["total"] = run.flops.total
    hours = plan.gpu_hours
    totals = {
        "flops": plan.flops,
        "gpu_hours": dataclasses.asdict(hours) if hours else None,
        "disk_bytes": plan.disk_bytes,
    }
    return {**plain, "totals": totals}
