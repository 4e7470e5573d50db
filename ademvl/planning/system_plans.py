"""Plans of runs whose system is no method on a frozen decoder: evaluated only, or trained whole."""

import dataclasses

from ademvl.config.run import RunSettings
from ademvl.machine.devices import DeviceType, wants_gpu
from ademvl.planning.fit import numerics_of
from ademvl.planning.memory import NO_MEMORY
from ademvl.planning.passes import largest_evaluation_batch
from ademvl.planning.plans import RunPlan, RunSeconds, Target
from ademvl.planning.schedule import RunFlops, Seconds, seconds_on
from ademvl.planning.sizes import Numerics
from ademvl.planning.systems import system_flops, system_memory, system_size
from ademvl.planning.whole_training import largest_pass, whole_flops, whole_memory, whole_size
from ademvl.planning.workload import Split, Workload


def plan_system(run: RunSettings, load: Workload, target: Target, *, seeds: int) -> RunPlan:
    """Plan a run of a whole system.

    Raises:
        SettingsError: its sizes are not known.
    """
    if run.method.kind == "trained_whole":
        return _plan_whole_training(run, load, target, seeds=seeds)
    return _plan_evaluation(run, load.evaluation, target, seeds=seeds)


def _plan_evaluation(run: RunSettings, split: Split, target: Target, *, seeds: int) -> RunPlan:
    """Plan the evaluation of a system that is not trained here."""
    device: DeviceType = "cuda" if wants_gpu(run.backbones) else "cpu"
    size, batch = system_size(run), largest_evaluation_batch(run, split)
    numerics = Numerics(precision=run.backbones.precision, quantization=run.backbones.quantization)
    operations = system_flops(size, split, new_tokens=run.new_tokens)
    seconds = None
    if target.gpu is not None and device == "cuda":
        nothing = Seconds(0.0, 0.0, 0.0)
        answers = seconds_on(target.gpu, numerics, operations, utilization=target.utilization)
        seconds = RunSeconds(nothing, answers, 1)
    return RunPlan(
        name=run.name,
        seeds=seeds,
        trains=False,
        trained={},
        frozen=size.parameters,
        device=device,
        batch=batch,
        memory=NO_MEMORY,
        is_checkpointed=False,
        other_checkpointing=0,
        evaluation_memory=system_memory(
            size, numerics, batch, new_tokens=run.new_tokens, device=device
        ),
        evaluation_rows=batch.rows,
        flops=RunFlops(
            training_per_item=0.0, training=0.0, evaluation=operations, optimizer_steps=0, busiest=1
        ),
        seconds=seconds,
        rate=None,
    )


def _plan_whole_training(
    run: RunSettings, load: Workload, target: Target, *, seeds: int
) -> RunPlan:
    """Plan both trainings of a system that is trained whole, and its evaluation."""
    device: DeviceType = "cuda" if wants_gpu(run.backbones) else "cpu"
    size, numerics = whole_size(run), dataclasses.replace(numerics_of(run), quantization="none")
    flops = whole_flops(run, size, load, trains=True)
    batch, asked = largest_pass(run, load.training), largest_evaluation_batch(run, load.evaluation)
    memory = whole_memory(size, numerics, batch, device=device)
    other = dataclasses.replace(numerics, checkpointing=not numerics.checkpointing)
    seconds = None
    if target.gpu is not None and device == "cuda":
        training, evaluation = (
            seconds_on(target.gpu, numerics, work, utilization=target.utilization)
            for work in (flops.training, flops.evaluation)
        )
        seconds = RunSeconds(training.times(1 / target.count), evaluation, target.count)
    return RunPlan(
        name=run.name,
        seeds=seeds,
        trains=True,
        trained={f"{part}, each stage": count for part, count in size.trained.items()},
        frozen=0,
        device=device,
        batch=batch,
        memory=memory,
        is_checkpointed=numerics.checkpointing,
        other_checkpointing=whole_memory(size, other, batch, device=device).total,
        evaluation_memory=memory.adapter + memory.overhead + memory.logits,
        evaluation_rows=asked.rows,
        flops=flops,
        seconds=seconds,
        rate=None,
    )
