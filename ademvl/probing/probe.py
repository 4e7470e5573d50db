"""A minute's measurement: a few real steps of a run's shapes with random weights, scaled up.

Language models too large for this are measured with few of their layers, twice, and the time of
all layers is drawn from the difference: a step's time is a part for each layer and the rest. Where
a method treats layers differently, each kind of them is measured with more layers once. Only time
is measured; what a run learns, reads or writes has no part in it.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ademvl.config.run import RunSettings
from ademvl.config.study import Study
from ademvl.errors import SettingsError
from ademvl.machine.devices import DeviceType
from ademvl.machine.free_memory import free_memory
from ademvl.machine.gpus import reserved_gpus
from ademvl.planning.fit import RunMemory, model_sizes, numerics_of
from ademvl.planning.flops import training_flops
from ademvl.planning.frozen_costs import llm_weight_bytes
from ademvl.planning.memory import training_memory
from ademvl.planning.method_costs import UnmeasurableError
from ademvl.planning.passes import PassRows, as_batch, simulated_steps
from ademvl.planning.rows import Row
from ademvl.planning.schedule import Rate
from ademvl.planning.sizes import ModelSizes, Numerics
from ademvl.planning.workload import workload_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ademvl.data.collate import Batch
    from ademvl.training.loop import Trainer

_log = logging.getLogger(__name__)

BUDGET_SECONDS = 60.0
FEW_LAYERS = (1, 3)
"""Layers of a kind in the two models from which the time of all of its kind is drawn."""
_MAX_PASSES, _MIN_PASSES = 64, 2
_SHARE_OF_MEMORY = 0.8


class _Group(NamedTuple):
    """Runs that are equally fast but for the number of operations."""

    llm: object
    vision: object
    online: bool
    numerics: Numerics
    batch_size: int
    task: str
    method: str


class _FewLayers(NamedTuple):
    """Which layers are there when a step is timed.

    Attributes:
        numbers: which of the decoder's layers, from 0 and ascending.
        weight: of what its steps take more than those with the fewest layers, in the time with all
            layers.
    """

    numbers: tuple[int, ...]
    weight: float


def probe_study(study: Study) -> dict[str, Rate]:
    """Measure how fast the runs of a study train here, by name of the run.

    Runs of one shape are measured once. Runs that do not fit here are left out, which is logged.
    A GPU is waited for as by a run of the study.
    """
    groups: dict[_Group, list[RunSettings]] = {}
    for run in {run.name: run for run in study.runs}.values():
        try:
            sizes = model_sizes(run)
        except SettingsError:
            continue
        size = run.optimization.per_device_batch_size
        numerics = numerics_of(run)
        key = _Group(
            sizes.llm, sizes.vision, sizes.online, numerics, size, run.task, run.method.name
        )
        groups.setdefault(key, []).append(run)
    rates: dict[str, Rate] = {}
    with reserved_gpus(None, limit=study.settings.gpus, job=study.run_dir(study.runs[0])):
        for runs in groups.values():
            dataset = study.settings.datasets[Path(runs[0].data_dir).parent.name]
            rows = workload_of(runs[0], dataset).training.rows
            try:
                rate = probe_run(runs[0], rows, budget_seconds=BUDGET_SECONDS / len(groups))
            except UnmeasurableError as error:
                _log.warning("%s: not probed: %s", runs[0].name, error)
                continue
            if rate is not None:
                rates |= {run.name: rate for run in runs}
    return rates


def probe_run(
    run: RunSettings,
    rows: Sequence[Row],
    *,
    budget_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Rate | None:
    """Measure how fast a run trains on the device that it would train on.

    Args:
        run: settings; its data and weights are not read.
        rows: a sample of its training rows.
        budget_seconds: time for the steps; building models comes on top.
        clock: gives the time in seconds.

    Returns:
        The rate; None where not even a few layers fit.
    """
    from ademvl.machine.devices import compute_device

    sizes, numerics = model_sizes(run), dataclasses.replace(numerics_of(run), quantization="none")
    device = compute_device(run.backbones)
    parts = _layers_that_fit(run, sizes, numerics, rows, device)
    if not parts:
        _log.warning("%s: not probed, as not even a few layers fit on %s", run.name, device)
        return None
    steps = simulated_steps(run.optimization, rows, image_tokens=sizes.image_tokens)
    passes = list(islice(chain.from_iterable(chain.from_iterable(steps)), _MAX_PASSES))
    seconds: list[list[float]] = []
    for part in parts:
        limit = budget_seconds / len(parts)
        wanted = passes[: len(seconds[0])] if seconds else passes
        trainer = _build_trainer(run, sizes, numerics, wanted, device, layers=part.numbers)
        seconds.append(_time_passes(trainer, len(wanted), device, limit=limit, clock=clock))
    timed = min(map(len, seconds))
    total = _extrapolate(parts, [sum(each[:timed]) for each in seconds])
    flops = sum(training_flops(sizes, numerics, as_batch(each)).total for each in passes[:timed])
    counts = tuple(len(part.numbers) for part in parts)
    return Rate(flops / total, _device_name(device), counts, timed)


def _layers_that_fit(
    run: RunSettings,
    sizes: ModelSizes,
    numerics: Numerics,
    rows: Sequence[Row],
    device: "torch.device",
) -> list[_FewLayers]:
    """Return which layers to measure with: all, else few of them, else none."""
    kind: DeviceType = "cuda" if device.type == "cuda" else "cpu"
    batch = RunMemory(run, kind, rows).largest_batch()
    free = _SHARE_OF_MEMORY * free_memory(device).bytes
    num_layers = sizes.llm.layers
    memory = training_memory(sizes, numerics, batch, device=kind)
    none = dataclasses.replace(sizes.llm, layers=0)
    weights = llm_weight_bytes(sizes.llm, numerics) - llm_weight_bytes(none, numerics)
    a_layer = (weights + memory.llm_activations) // num_layers

    def fits(count: int) -> bool:
        return memory.total - (num_layers - count) * a_layer <= free

    # On a CPU the layers of a large model take too long even where they fit.
    is_small = num_layers <= FEW_LAYERS[-1] + 1
    if (is_small or device.type == "cuda") and fits(num_layers):
        return [_FewLayers(tuple(range(num_layers)), 0.0)]
    few = _few_layers(_kinds_by_time(sizes, numerics))
    return few if fits(max(len(part.numbers) for part in few)) else []


def _kinds_by_time(sizes: ModelSizes, numerics: Numerics) -> list[tuple[int, ...]]:
    """Group layers that take like time: the first touched one takes hardly less than the others."""
    from ademvl.planning.layer_kinds import layer_kinds
    from ademvl.planning.random_model import build_random_model

    model = build_random_model(sizes, numerics, device="meta")
    kinds: dict[object, tuple[int, ...]] = {}
    for kind in layer_kinds(model.method, model.llm):
        key = kind.touch, kind.is_before
        kinds[key] = tuple(sorted((*kinds.get(key, ()), *kind.numbers)))
    return list(kinds.values())


def _few_layers(kinds: Sequence[tuple[int, ...]]) -> list[_FewLayers]:
    """Choose one layer of each kind; then, for each kind that has more, two more of it.

    The time with all layers is that with one of each, and for each further layer of a kind its part
    of the difference.
    """
    few, many = FEW_LAYERS
    base = [number for kind in kinds for number in kind[:few]]
    parts = [_FewLayers(tuple(sorted(base)), 0.0)]
    for kind in kinds:
        if more := kind[few:many]:
            weight = (len(kind) - few) / len(more)
            parts.append(_FewLayers(tuple(sorted([*base, *more])), weight))
    return parts


def _extrapolate(parts: Sequence[_FewLayers], seconds: Sequence[float]) -> float:
    """Return the time with all layers, from those with few; more layers take no less time."""
    shortest, *longer = seconds
    return shortest + sum(
        part.weight * max(long - shortest, 0.0)
        for part, long in zip(parts[1:], longer, strict=True)
    )


def _time_passes(
    trainer: "Trainer",
    num_passes: int,
    device: "torch.device",
    *,
    limit: float,
    clock: Callable[[], float],
) -> list[float]:
    """Time steps of one pass each, until the limit; the first is done twice and not counted."""
    import torch

    from ademvl.machine.cpu_kernels import fast_cpu

    seconds: list[float] = []
    with closing(trainer), fast_cpu():
        trainer.step(0)
        started = clock()
        for number in range(num_passes):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            before = clock()
            trainer.step(number)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(clock() - before)
            if len(seconds) >= _MIN_PASSES and clock() - started > limit:
                break
    return seconds


def _build_trainer(
    run: RunSettings,
    sizes: ModelSizes,
    numerics: Numerics,
    passes: Sequence[PassRows],
    device: "torch.device",
    *,
    layers: tuple[int, ...],
) -> "Trainer":
    """Make a trainer of random models with some layers; each of its steps is one pass."""
    from ademvl.planning.random_model import build_random_model, random_example
    from ademvl.training.loop import Trainer
    from ademvl.training.optimizer import build_optimizer
    from ademvl.training.order import StepPlan

    class InOrder(StepPlan):
        """Gives the items of each pass as they come."""

        @cached_property
        def total_steps(self) -> int:
            return len(passes)

        def items_of(self, step: int) -> tuple[int, ...]:
            return tuple(range(ends[step] - len(passes[step]), ends[step]))

    ends = list(accumulate(map(len, passes)))
    optimization = dataclasses.replace(
        run.optimization,
        effective_batch_size=1,
        per_device_batch_size=1,
        loss_group_size=0,
        epochs=1.0,
        warmup_epochs=0.0,
    )
    rows = [
        random_example(sizes, row, number=i) for i, row in enumerate(chain.from_iterable(passes))
    ]
    model = build_random_model(sizes, numerics, device=str(device), layers=layers)
    parameters = dict(model.named_trainable_parameters())
    return Trainer(
        model,
        parameters,
        build_optimizer(model.method, optimization),
        rows=rows,
        visual_source=_RandomImages(sizes),
        plan=InOrder(len(rows), run.seed, optimization),
        precision=numerics.precision,
    )


class _RandomImages:
    """Gives random pixels or features for the images of a batch."""

    def __init__(self, sizes: ModelSizes) -> None:
        self._sizes = sizes

    def for_batch(self, batch: "Batch", *, epoch: int = 0) -> "Tensor | None":
        from ademvl.planning.random_model import random_images

        return random_images(self._sizes, sum(image is not None for image in batch.images))


def _device_name(device: "torch.device") -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    import torch

    return f"CPU, {torch.get_num_threads()} threads"
