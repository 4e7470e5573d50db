"""Whether a run fits into memory, and which settings would, before training and when it ran out."""

import dataclasses
import heapq
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import RunSettings
from ademvl.data.tokenizer import IGNORED_LABEL
from ademvl.errors import SettingsError
from ademvl.llm.source import find_llm
from ademvl.machine.devices import DeviceType
from ademvl.machine.free_memory import FreeMemory
from ademvl.planning.costs import sizes_with
from ademvl.planning.memory import CUDA_CONTEXT_BYTES, Memory, training_memory
from ademvl.planning.passes import as_batch, simulated_steps
from ademvl.planning.rows import Row
from ademvl.planning.shapes import llm_shape, vision_shape
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics
from ademvl.storage.byte_sizes import gib
from ademvl.tasks.registry import task_named

if TYPE_CHECKING:
    from ademvl.data.rows import TokenizedExample

_log = logging.getLogger(__name__)

UNCERTAINTY = 0.15
"""Part by which a prediction may be off: a run is refused only where it is too large even so."""
Fit = Literal["fits", "may not fit", "does not fit"]
MAX_ALTERNATIVES = 5
_SIMULATED_STEPS = 256
_SAMPLE, _LONGEST_ROWS = 1000, 64


@dataclass(frozen=True)
class Alternative:
    """Settings that differ from a run's, and what it would take with them.

    Attributes:
        changes: new value of each setting, by dotted key as a study writes it.
        bytes: predicted peak of one process.
        note: what the change means for results; empty where they stay the same.
    """

    changes: Mapping[str, object]
    bytes: int
    note: str = ""

    def __str__(self) -> str:
        settings = ", ".join(f"{key}: {_plain(value)}" for key, value in self.changes.items())
        note = f"; {self.note}" if self.note else ""
        return f"{settings} (about {gib(self.bytes)}{note})"


@dataclass(frozen=True)
class RunMemory:
    """Predicts what a run takes on one device, with its settings or with others.

    Attributes:
        run: settings in force, from which models, precision and batch are taken.
        device: kind of device: on a GPU the context and the kernels' workspaces count, too.
        rows: of its training data, drawn at random and the longest, if known; else all are as long
            as `prompts.max_seq_len`.
        num_images: different images of its training data.
    """

    run: RunSettings
    device: DeviceType
    rows: Sequence[Row] = field(default=(), repr=False)
    num_images: int = 0

    def predict(self) -> Memory:
        """Return the peak of one training process.

        Raises:
            SettingsError: the sizes of the frozen models are not known.
        """
        return self._memory_of(self.largest_batch(), numerics_of(self.run))

    def largest_batch(self) -> MicroBatch:
        """Return the pass that takes the most memory, of many steps drawn from the rows.

        Raises:
            SettingsError: the sizes of the frozen models are not known.
        """
        run, numerics = self.run, numerics_of(self.run)
        if not self.rows:
            width, size = run.prompts.max_seq_len, run.optimization.per_device_batch_size
            return MicroBatch(
                rows=size,
                image_rows=size * (run.images == "shown"),
                width=width,
                scored=size * _scored_tokens(run, width),
            )
        candidates = _large_passes(run.optimization, tuple(self.rows), self._sizes.image_tokens)
        return max(candidates, key=lambda batch: self._memory_of(batch, numerics).total)

    def with_checkpointing(self, *, on: bool) -> Memory:
        """Return the peak with gradient checkpointing switched on or off, of the same passes."""
        numerics = dataclasses.replace(numerics_of(self.run), checkpointing=on)
        return self._memory_of(self.largest_batch(), numerics)

    @cached_property
    def _sizes(self) -> ModelSizes:
        return model_sizes(self.run)

    def _memory_of(self, batch: MicroBatch, numerics: Numerics) -> Memory:
        return training_memory(
            self._sizes,
            numerics,
            batch,
            device=self.device,
            kept_images=0 if self.run.augments_images else self.num_images,
        )


@lru_cache(maxsize=32)
def _large_passes(
    optimization: OptimizationSettings, rows: tuple[Row, ...], image_tokens: int
) -> tuple[MicroBatch, ...]:
    """Return passes of many steps, one of which takes the most memory whatever the models are."""
    steps = simulated_steps(optimization, rows, image_tokens=image_tokens)
    drawn = {as_batch(rows) for step in islice(steps, _SIMULATED_STEPS) for rows in chain(*step)}
    measures = (
        lambda batch: batch.rows * batch.width,
        lambda batch: batch.image_rows,
    )
    return tuple({max(drawn, key=measure) for measure in measures})


def _scored_tokens(run: RunSettings, width: int) -> int:
    most = task_named(run.task).most_scored(run)
    return width if most is None else min(width, most)


def model_sizes(run: RunSettings) -> ModelSizes:
    """Return the sizes of the models that a run trains with.

    Raises:
        SettingsError: they are not known.
    """
    return sizes_with(
        run.method,
        llm=llm_shape(run.backbones),
        vision=vision_shape(run.backbones),
        online=run.features.mode == "online",
    )


def numerics_of(run: RunSettings) -> Numerics:
    """Return how a run holds its numbers."""
    return Numerics(
        precision=run.backbones.precision,
        quantization=run.backbones.quantization,
        checkpointing=run.optimization.gradient_checkpointing,
        accumulates=run.optimization.accumulation_steps() > 1,
        averages=run.optimization.weight_averaging != "none",
    )


def memory_rows(rows: "Sequence[TokenizedExample]") -> list[Row]:
    """Return rows of a training split that tell of its largest passes: some, and the longest."""
    some = random.Random(0).sample(rows, min(_SAMPLE, len(rows)))
    longest = heapq.nlargest(_LONGEST_ROWS, rows, key=lambda row: len(row.ids))
    return [
        Row(len(row.ids), int((row.labels != IGNORED_LABEL).sum()), row.image is not None)
        for row in (*some, *longest)
    ]


def settings_that_fit(
    run: RunSettings, available_bytes: int, *, device: DeviceType, rows: Sequence[Row] = ()
) -> list[Alternative]:
    """Return settings with which a run fits, those first that leave its results as they are.

    Args:
        run: the run that does not fit, whose settings are varied.
        available_bytes: free on the device before the run's process takes anything.
        device: kind of device, see `RunMemory`.
        rows: of the training data; without them all are taken to be as long as the limit.

    Raises:
        SettingsError: the sizes of the frozen models are not known.
    """
    found: list[Alternative] = []
    for base in _bases(run, device):
        fitting = _largest_batch_that_fits(run, base, available_bytes, device, rows)
        if fitting is not None:
            found.append(fitting)
        if len(found) == MAX_ALTERNATIVES:
            break
    return found


def _bases(run: RunSettings, device: DeviceType) -> Iterator[Alternative]:
    """Give changes beside the batch size, in the order of preference."""
    yield Alternative({}, 0)
    if not run.optimization.gradient_checkpointing:
        yield Alternative({"optimization.gradient_checkpointing": True}, 0, "takes longer")
    if run.backbones.precision == "fp32" and device == "cuda":
        yield Alternative({"backbones.precision": "bf16"}, 0, "computes with fewer digits")
    if run.backbones.quantization == "none" and not find_llm(run.backbones).gguf_file:
        note = "frozen weights are rounded"
        yield Alternative({"backbones.quantization": "int8"}, 0, note)
        yield Alternative({"backbones.quantization": "int4"}, 0, note)
        if not run.optimization.gradient_checkpointing:
            both = {
                "backbones.quantization": "int4",
                "optimization.gradient_checkpointing": True,
            }
            yield Alternative(both, 0, f"{note}; takes longer")
    if run.features.mode == "online":
        cached = with_changes(run, {"features.mode": "cached"})
        is_another = model_sizes(cached).trained != model_sizes(run).trained
        note = "another method: no adapters inside the tower" if is_another else "features are kept"
        yield Alternative({"features.mode": "cached"}, 0, note)


def _largest_batch_that_fits(
    run: RunSettings,
    base: Alternative,
    available_bytes: int,
    device: DeviceType,
    rows: Sequence[Row],
) -> Alternative | None:
    present = run.optimization.per_device_batch_size
    for size in (present, *_smaller_batches(run)):
        smaller = {"optimization.per_device_batch_size": size} if size < present else {}
        changes = {**base.changes, **smaller}
        needed = RunMemory(with_changes(run, changes), device, rows).predict().total
        if changes and needed <= available_bytes:
            return dataclasses.replace(base, changes=changes, bytes=needed)
    return None


def _smaller_batches(run: RunSettings) -> list[int]:
    optimization = run.optimization
    return [
        size
        for size in range(optimization.per_device_batch_size - 1, 0, -1)
        if optimization.effective_batch_size % size == 0
    ]


def with_changes(run: RunSettings, changes: Mapping[str, object]) -> RunSettings:
    """Return a run's settings with other values under dotted keys."""
    for path, value in changes.items():
        group, _, key = path.partition(".")
        part = dataclasses.replace(getattr(run, group), **{key: value})
        run = dataclasses.replace(run, **{group: part})
    return run


def describe_alternatives(alternatives: Sequence[Alternative]) -> str:
    """Render settings that fit as lines of a message."""
    if not alternatives:
        return "No settings known here would fit; use a device with more memory, or a smaller model"
    return "Any of these would fit:\n" + "\n".join(f"  - {each}" for each in alternatives)


def fit_of(needed_bytes: int, there_bytes: int) -> Fit:
    """Say whether a prediction fits, given by how much it may be off; the rule of all who ask."""
    if needed_bytes * (1 - UNCERTAINTY) > there_bytes:
        return "does not fit"
    return "may not fit" if needed_bytes > there_bytes * (1 - UNCERTAINTY) else "fits"


def check_fits(
    run: RunSettings, free: FreeMemory, rows: Sequence[Row] = (), *, num_images: int = 0
) -> None:
    """Refuse to start a training that would run out of memory, before weights are loaded.

    Nothing is refused where the sizes of the models are not known.

    Args:
        run: whose training is about to start.
        free: what the device has left; a GPU's context counts as taken already.
        rows: of the training data, see `memory_rows`; without them all count as longest.
        num_images: different images of the training data, which online runs keep as pixels.

    Raises:
        SettingsError: the prediction exceeds what is free by more than it may be off; names the
            largest parts, and settings that would fit.
    """
    try:
        memory = RunMemory(run, free.device_type, rows, num_images).predict()
    except SettingsError as error:
        _log.warning("memory is not predicted: %s", error)
        return
    context = CUDA_CONTEXT_BYTES if free.device_type == "cuda" else 0
    available = free.bytes + context
    fit = fit_of(memory.total, available)
    if fit == "does not fit":
        raise SettingsError(_refusal(run, memory, free, available, rows))
    if fit == "may not fit":
        _log.warning(
            "%s has %s free, and about %s are needed: this may not fit",
            *(free.name, gib(free.bytes), gib(memory.total - context)),
        )


def _refusal(
    run: RunSettings, memory: Memory, free: FreeMemory, available: int, rows: Sequence[Row]
) -> str:
    parts = sorted((getattr(memory, p.name), p.name) for p in dataclasses.fields(memory))[-3:]
    largest = ", ".join(f"{name.replace('_', ' ')} {gib(size)}" for size, name in reversed(parts))
    alternatives = settings_that_fit(run, available, device=free.device_type, rows=rows)
    return (
        f"{run.study}/{run.name}: training would take about {gib(memory.total)} at "
        f"per_device_batch_size {run.optimization.per_device_batch_size} ({largest}), but "
        f"{free.name} has {gib(free.bytes)} free. {describe_alternatives(alternatives)}\n"
        "--ignore-memory starts all the same"
    )


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
