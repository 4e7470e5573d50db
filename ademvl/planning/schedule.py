"""What a run's items become on a device: batches, operations, steps and seconds."""

from dataclasses import dataclass
from itertools import islice

from ademvl.config.run import PRECISION_BYTES, RunSettings
from ademvl.planning.devices import Gpu
from ademvl.planning.flops import evaluation_flops, training_flops
from ademvl.planning.frozen_costs import feature_shape, llm_weight_bytes, tower_forward_flops
from ademvl.planning.passes import as_batch, simulated_batches, simulated_steps
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics
from ademvl.planning.workload import Workload

UTILIZATION = 0.3
UTILIZATION_RANGE = (0.15, 0.45)
"""Part of a GPU's matrix rate that training of frozen 7B models reaches: an assumption. The paper's
own GPU hours on ScienceQA come to about 0.15, its seconds a batch to more (docs/planning.md)."""
PROBE_RANGE = (0.8, 1.25)
"""How far a run's time may be from what a minute's measurement says, as others use the machine."""
BANDWIDTH_UTILIZATION = 0.6
"""Part of the memory bandwidth that generation with a key-value cache reaches: an assumption."""
_SIMULATED_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class RunFlops:
    """Operations of a whole run with one seed.

    Attributes:
        training_per_item: forward and backward pass of an item, padding included.
        training: of all steps; items that an epoch leaves over are in none.
        evaluation: of all items that are answered.
        optimizer_steps: of the whole training; 0 where nothing is trained.
        busiest: operations of the device that has most to do in a step, as a part of the step's, on
            average; 1 on one device.
    """

    training_per_item: float
    training: float
    evaluation: float
    optimizer_steps: int
    busiest: float

    @property
    def total(self) -> float:
        """Training and evaluation."""
        return self.training + self.evaluation


def run_flops(
    run: RunSettings,
    sizes: ModelSizes,
    numerics: Numerics,
    workload: Workload,
    *,
    trains: bool,
    devices: int = 1,
) -> RunFlops:
    """Count the operations of a run.

    Args:
        run: decides batch, epochs and what is generated in evaluation.
        sizes: of its models; with `online` the tower's passes count.
        numerics: checkpointing counts forward passes again; precision changes no count.
        workload: items, and rows to draw batches from.
        trains: whether the run trains an adapter of its own.
        devices: that share each step; they decide how busy the busiest is, not the sum.

    Raises:
        SettingsError: the data does not fill a single step.
    """
    batch_size = run.optimization.effective_batch_size
    drawn = simulated_steps(
        run.optimization,
        workload.training.rows,
        image_tokens=sizes.image_tokens,
        devices=devices,
    )
    counted = busiest = 0
    for shares in islice(drawn, _SIMULATED_STEPS):
        flops = [
            sum(training_flops(sizes, numerics, as_batch(rows)).total for rows in share)
            for share in shares
        ]
        counted += sum(flops)
        busiest += max(flops)
    per_item = counted / (_SIMULATED_STEPS * batch_size)
    steps = run.optimization.total_steps(workload.training.items) if trains else 0
    return RunFlops(
        training_per_item=per_item if trains else 0.0,
        training=per_item * steps * batch_size,
        evaluation=_evaluation_flops(run, sizes, workload),
        optimizer_steps=steps,
        busiest=busiest / counted,
    )


def _evaluation_flops(run: RunSettings, sizes: ModelSizes, workload: Workload) -> float:
    batches = evaluation_batches(run, workload)
    return sum(evaluation_flops(sizes, batch, new_tokens=run.new_tokens) for batch in batches)


def evaluation_batches(run: RunSettings, workload: Workload) -> list[MicroBatch]:
    """Return the batches in which a run is evaluated."""
    split = workload.evaluation
    return simulated_batches(split.rows, items=split.items, max_rows=run.evaluation.batch_size)


@dataclass(frozen=True)
class Seconds:
    """A predicted time with its range.

    Attributes:
        expected: at the utilisation that was asked for.
        low, high: at the best and the worst utilisation that is likely.
    """

    expected: float
    low: float
    high: float

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.expected + other.expected, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Seconds":
        """Return the time of `factor` times the work."""
        return Seconds(self.expected * factor, self.low * factor, self.high * factor)


def seconds_on(gpu: Gpu, numerics: Numerics, flops: float, *, utilization: float) -> Seconds:
    """Predict the time of work that is bound by matrix products.

    The range scales the likely one around its middle, so that a measured utilisation moves it.

    Raises:
        SettingsError: the GPU's matrix units do not compute in this precision.
    """
    best = flops / gpu.rate(numerics.precision)
    low, high = UTILIZATION_RANGE
    return Seconds(
        best / utilization,
        best / min(utilization * high / UTILIZATION, 1.0),
        best / (utilization * low / UTILIZATION),
    )


def seconds_at(flops_per_second: float, flops: float) -> Seconds:
    """Return the time of work at a measured rate, which holds within a quarter."""
    expected = flops / flops_per_second
    low, high = PROBE_RANGE
    return Seconds(expected, expected * low, expected * high)


def generation_seconds(
    gpu: Gpu, run: RunSettings, sizes: ModelSizes, numerics: Numerics, workload: Workload
) -> float:
    """Return the time in which generation reads the language model's weights, once a token.

    With few rows this takes longer than the products themselves. The first token comes with the
    prompt; sampling and beams are left out.
    """
    passes = (run.new_tokens - 1) * len(evaluation_batches(run, workload))
    a_pass = llm_weight_bytes(sizes.llm, numerics) / (gpu.gb_per_s * 1e9 * BANDWIDTH_UTILIZATION)
    return passes * a_pass


def feature_flops(sizes: ModelSizes, num_images: int) -> int:
    """Count encoding images once with the frozen tower."""
    return tower_forward_flops(sizes.vision, sizes.method.tower_states, num_images)


def feature_cache_bytes(run: RunSettings, sizes: ModelSizes, num_images: int) -> int:
    """Return what the features of images take on disk, images that occur twice counted twice."""
    tokens, width = feature_shape(sizes.vision, sizes.method.tower_states)
    return num_images * tokens * width * PRECISION_BYTES[run.features.precision]


@dataclass(frozen=True)
class Rate:
    """How fast this machine trains.

    Attributes:
        flops_per_second: operations of training, as `flops.py` counts them, in a second.
        device: name of the device that was measured, as it is printed.
        layers: how many layers each measured model had; one number where all were there.
        passes: micro-batches that were timed, the same with each of the models.
    """

    flops_per_second: float
    device: str
    layers: tuple[int, ...]
    passes: int
