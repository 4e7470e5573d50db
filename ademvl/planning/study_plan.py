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
from ademvl.planning.disk import (
    Job,
    cached_features,
    feature_disk,
    made_data_disk,
    result_disk,
    source_disk,
)
from ademvl.planning.fit import RunMemory, model_sizes, numerics_of, settings_that_fit
from ademvl.planning.memory import evaluation_memory
from ademvl.planning.method_costs import UnmeasurableError
from ademvl.planning.passes import largest_evaluation_batch
from ademvl.planning.plans import RunPlan, RunSeconds, StudyPlan, Target
from ademvl.planning.possible import refuse_impossible
from ademvl.planning.schedule import (
    Rate,
    RunFlops,
    Seconds,
    feature_flops,
    generation_seconds,
    run_flops,
    seconds_at,
    seconds_on,
)
from ademvl.planning.sizes import ModelSizes
from ademvl.planning.system_plans import plan_system
from ademvl.planning.workload import Workload, workload_of
from ademvl.runs.chosen_rate import candidate_of, choosing_run


@dataclass(frozen=True, kw_only=True)
class _PlannedRun:
    """A run's plan, and what the sums over a study need of it.

    Attributes:
        plan: of one seed after the other.
        assumptions: that it rests on.
        job: of each seed; None for a whole system.
        choice: plan of the trainings of its grid; None without any.
        tried: jobs of these trainings.
    """

    plan: RunPlan
    assumptions: tuple[str, ...]
    job: Job | None = None
    choice: RunPlan | None = None
    tried: tuple[Job, ...] = ()


def plan_study(study: Study, target: Target, rates: Mapping[str, Rate] | None = None) -> StudyPlan:
    """Predict what a study takes; nothing is loaded or written.

    Args:
        target: what it is planned for.
        rates: measured by `ademvl.probing.probe`, by name of the run; they decide about time.

    Raises:
        SettingsError: a run cannot be trained with its settings.
    """
    refuse_impossible(study)
    seeds = Counter(run.name for run in study.runs)
    first = {run.name: run for run in reversed(study.runs)}
    planned: dict[str, _PlannedRun] = {}
    unknown: dict[str, str] = {}
    for name in seeds:
        found = _plan_of(
            first[name], study, target, seeds=seeds[name], rate=(rates or {}).get(name)
        )
        if isinstance(found, str):
            unknown[name] = found
        else:
            planned[name] = found
    return _summed(study, target, planned, unknown)


def _plan_of(
    run: RunSettings, study: Study, target: Target, *, seeds: int, rate: Rate | None
) -> _PlannedRun | str:
    """Plan a run as its kind asks for, or say why it is not known what it takes."""
    if run.method.kind == "elsewhere":
        return "its answers are read from a file"
    dataset = study.settings.datasets[Path(run.data_dir).parent.name]
    if run.method.kind in ("pretrained", "trained_whole"):
        load = workload_of(run, dataset)
        try:
            plan = plan_system(run, load, target, seeds=seeds)
        except SettingsError as error:
            return str(error)
        return _PlannedRun(plan=plan, assumptions=load.assumptions)
    try:
        sizes = model_sizes(run)
    except SettingsError as error:
        return str(error)
    workload = workload_of(run, dataset)
    if run.adapter == TRAINED:
        run.optimization.total_steps(workload.training.items)  # refuses too few
    try:
        plan = _plan_run(run, sizes, workload, target, seeds=seeds, rate=rate)
    except UnmeasurableError as error:
        return str(error)
    found = _PlannedRun(plan=plan, assumptions=workload.assumptions, job=(run, sizes, workload))
    if choosing_run(run) != run.name:
        return found
    candidate = candidate_of(run, run.optimization.lr_grid[0])
    on_val = workload_of(candidate, dataset)
    told: tuple[str, ...] = ()
    if growth := run.optimization.lr_grid_growth:
        told = (f"the best rate is inside its grid; else up to {growth} trainings more a run",)
    return dataclasses.replace(
        found,
        assumptions=found.assumptions + told,
        choice=_plan_choice(plan, run, sizes, on_val, target),
        tried=((candidate, sizes, on_val),) * len(run.optimization.lr_grid),
    )


def _summed(
    study: Study, target: Target, planned: Mapping[str, _PlannedRun], unknown: Mapping[str, str]
) -> StudyPlan:
    """Add up what the runs of a study take together."""
    runs = planned.values()
    of_seeds = (planned[run.name].job for run in study.runs if run.name in planned)
    jobs = [job for job in of_seeds if job is not None]
    jobs += [job for run in runs for job in run.tried]
    assumptions = (text for run in runs for text in run.assumptions)
    return StudyPlan(
        study=study.name,
        target=target,
        runs=tuple(run.plan for run in runs),
        choices=tuple(run.choice for run in runs if run.choice is not None),
        unknown=unknown,
        feature_flops=sum(
            feature_flops(sizes, num_images) for _, sizes, num_images in cached_features(jobs)
        ),
        disk=(
            *source_disk(study),
            *made_data_disk(study),
            *feature_disk(jobs),
            *result_disk(study, jobs),
        ),
        assumptions=tuple(dict.fromkeys(assumptions)),
    )


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
    memory = predicted.predict()
    asked = largest_evaluation_batch(run, workload.evaluation)
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
            new_tokens=run.new_tokens,
            device=device,
        ),
        evaluation_rows=asked.rows,
        flops=flops,
        seconds=_run_seconds(run, sizes, flops, workload, target, rate=rate),
        rate=rate,
        alternatives=_alternatives(run, target, workload, needed=memory.total) if trains else (),
    )


def _plan_choice(
    plan: RunPlan, run: RunSettings, sizes: ModelSizes, workload: Workload, target: Target
) -> RunPlan:
    """Plan the trainings of a run's grid, one after the other on one device.

    Args:
        plan: of the run itself, which takes the same memory.
        workload: of each of these trainings.
        target: what the study is planned for.
    """
    alone = dataclasses.replace(target, count=1)
    flops = run_flops(run, sizes, numerics_of(run), workload, trains=True)
    seconds = _run_seconds(run, sizes, flops, workload, alone, rate=plan.rate)
    rates = len(run.optimization.lr_grid)
    return dataclasses.replace(plan, seeds=rates, flops=flops, seconds=seconds)


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


def _run_seconds(
    run: RunSettings,
    sizes: ModelSizes,
    flops: RunFlops,
    workload: Workload,
    target: Target,
    *,
    rate: Rate | None,
) -> RunSeconds | None:
    """Predict the time of a run, by a measured rate or on a GPU; evaluation uses one of them."""
    if rate is not None:
        training, evaluation = (
            seconds_at(rate.flops_per_second, work) for work in (flops.training, flops.evaluation)
        )
        return RunSeconds(training.times(flops.busiest), evaluation, target.count)
    if target.gpu is None or not wants_gpu(run.backbones):
        return None
    numerics = numerics_of(run)
    training, answers = (
        seconds_on(target.gpu, numerics, work, utilization=target.utilization)
        for work in (flops.training, flops.evaluation)
    )
    reading = generation_seconds(target.gpu, run, sizes, numerics, workload)
    evaluation = Seconds(*(max(each, reading) for each in dataclasses.astuple(answers)))
    return RunSeconds(training.times(flops.busiest), evaluation, target.count)


def to_plain(plan: StudyPlan) -> dict[str, object]:
    """Return a plan as plain values for JSON, with its totals."""
    plain = dataclasses.asdict(plan)
    described_jobs = (*plain["runs"], *plain["choices"])
    for run, described in zip(plan.jobs, described_jobs, strict=True):
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
