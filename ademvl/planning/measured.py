"""Costs of any method, from its own code: one step each of few shapes, without values or memory.

- The method is that of the run, attached to a decoder of the run's widths. One layer of each kind
  is there, see `layer_kinds.py`: a method may touch some layers only. A step costs
  `base + plain * (L - t) + touched * t`, with t touched layers of L.
- Operations are polynomials of the batch, of degree 1 in rows and in rows with an image and 2 in
  the width, because self-attention pairs all tokens. Nine small batches settle them (six without
  images), so that hundreds of simulated ones take no time. Kept bytes are measured for the very
  batch.
- The tower is measured whole, with what the method trains inside it; it is linear in the images.
- Numbers are held as in a real step on the CPU: language model in its precision, trained tensors in
  fp32, autocast in between. fp16 is measured as bf16, of the same size. What a GPU does otherwise
  is not seen: its autocast computes the tower's LayerNorms in fp32, and its attention may keep
  other sums.
- Measured is the forward pass without checkpointing; `memory.py` derives the other. Quantised
  weights keep the same activations.
- Work on images that a layer does anew in each call counts with each generated token, and so does
  what it does in the first call only, as LaVIN's routers do.
- The output layer, logits and the buffers of single operations come from formulas, as they are no
  part of a method.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property

from ademvl.config.method import MethodSettings
from ademvl.config.run import Precision
from ademvl.errors import AdemvlError
from ademvl.machine.devices import DeviceType
from ademvl.methods.base import DecoderShape
from ademvl.planning.frozen_costs import (
    attention_flops,
    feature_shape,
    image_bytes,
    tower_forward_flops,
)
from ademvl.planning.measured_steps import (
    Decoder,
    StepCosts,
    StepShape,
    TowerCosts,
    measure_tower,
)
from ademvl.planning.method_costs import KeptBytes, UnmeasurableError
from ademvl.planning.parameter_counts import count_parameters
from ademvl.planning.random_model import tower_shape_of
from ademvl.planning.shapes import LlmShape, VisionShape
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics

_log = logging.getLogger(__name__)

WIDTHS = (32, 64, 96)
"""Widths from which the operations of all others follow, behind the image's places in the text."""
_HALF: Precision = "bf16"  # operations are the same in all precisions, and measured in this one
_measured: dict[str, "MeasuredCosts"] = {}


def measured_costs(
    settings: MethodSettings, llm: LlmShape, vision: VisionShape, *, online: bool
) -> "MeasuredCosts":
    """Return the costs of a method on models of these sizes; each is measured once in a process.

    Args:
        llm: sizes of the language model.
        vision: sizes of the tower.
        online: the tower takes part in every step.
    """
    key = repr((settings, llm, vision, online))
    if key not in _measured:
        _measured[key] = MeasuredCosts(settings, llm, vision, online)
    return _measured[key]


class MeasuredCosts:
    """Costs of a method, measured when they are asked for; see `measured_costs`."""

    def __init__(
        self, settings: MethodSettings, llm: LlmShape, vision: VisionShape, online: bool
    ) -> None:
        self._sizes = ModelSizes(llm, vision, settings, 0, online)
        self._decoders: dict[Precision, Decoder] = {}
        self._towers: dict[Precision, TowerCosts] = {}
        self._steps: dict[StepShape, StepCosts] = {}
        self._numbers: dict[tuple[Callable[[StepCosts], int], StepShape], int] = {}

    @cached_property
    def _trained(self) -> Mapping[str, int]:
        llm = self._sizes.llm
        shape = DecoderShape(
            width=llm.width,
            layers=llm.layers,
            heads=llm.heads,
            kv_heads=llm.kv_heads,
            head_dim=llm.head_dim,
            ffn_width=llm.ffn_width,
        )
        return count_parameters(
            self._sizes.method,
            llm=shape,
            tower=tower_shape_of(self._sizes.vision),
            online=self._sizes.online,
        )

    def trained(self) -> Mapping[str, int]:
        """Count the trained parameters of each part."""
        return self._trained

    def layers_forward(self, batch: MicroBatch) -> int:
        """Count the forward pass of all decoder layers."""
        return self._at(batch.rows, batch.image_rows, batch.width, _layers_forward)

    def layers_forward_cached(self, rows: int, image_rows: int, *, cached: int) -> int:
        """Count one token more of each row, behind `cached` ones."""
        llm, before = self._sizes.llm, self._sizes.method.text_places.before_begin
        alone = self._at(rows, image_rows, 1 - before, _layers_forward)
        pairs = attention_flops(llm, rows, 1, cached=cached + before)
        return alone + llm.layers * (pairs - attention_flops(llm, rows, 1))

    def images_forward(self, batch: MicroBatch) -> int:
        """Count what turns features into what the decoder sees of them."""
        return self._at(batch.rows, batch.image_rows, batch.width, _images_forward)

    def backward(self, batch: MicroBatch, *, checkpointing: bool) -> int:
        """Count the backward pass of layers and images, down to the features."""
        return self._at(
            batch.rows, batch.image_rows, batch.width, _backward, is_whole=checkpointing
        )

    def tower(self, num_images: int, *, training: bool) -> int:
        """Count the tower's pass over images; without `online` it is frozen."""
        vision, states = self._sizes.vision, self._sizes.method.tower_states
        if not self._sizes.online:
            return tower_forward_flops(vision, states, num_images)
        costs = self._tower(_HALF)
        return num_images * (costs.forward + (costs.backward if training else 0))

    def kept(self, numerics: Numerics, batch: MicroBatch, *, device: DeviceType) -> KeptBytes:
        """Return what is kept without checkpointing, on a CPU."""
        precision = _measured_precision(numerics.precision)
        step = self._step(StepShape(precision, batch.rows, batch.image_rows, batch.width))
        has_tower = self._sizes.online and batch.image_rows > 0
        tower = self._tower(precision) if has_tower else None
        vision, states = self._sizes.vision, self._sizes.method.tower_states
        images = image_bytes(vision, states, online=self._sizes.online)
        return KeptBytes(
            layers=step.layers_kept,
            one_layer=step.layer_kept,
            tower=batch.image_rows * tower.kept if tower else 0,
            tower_copies=tower.copies if tower else 0,
            images=step.images_kept + batch.image_rows * images,
        )

    def _at(
        self,
        rows: int,
        image_rows: int,
        width: int,
        value: Callable[[StepCosts], int],
        *,
        is_whole: bool = False,
    ) -> int:
        """Return a number of operations for any batch, from those of small ones."""
        shape = StepShape(_HALF, rows, image_rows, width, is_whole)
        if (value, shape) not in self._numbers:
            self._numbers[value, shape] = self._from_small_batches(shape, value)
        return self._numbers[value, shape]

    def _from_small_batches(self, shape: StepShape, value: Callable[[StepCosts], int]) -> int:
        widths = [self._sizes.method.text_places.with_image + each for each in WIDTHS]

        def at_width(rows: int, image_rows: int) -> Fraction:
            few = shape._replace(rows=rows, image_rows=image_rows)
            values = [value(self._step(few._replace(width=width))) for width in widths]
            return _interpolate(widths, values, shape.width)

        if not shape.image_rows:
            one, two = at_width(1, 0), at_width(2, 0)
            return int(one + (shape.rows - 1) * (two - one))
        one, text_too, two = at_width(1, 1), at_width(2, 1), at_width(2, 2)
        more_rows = (shape.rows - 1) * (text_too - one)
        return int(one + more_rows + (shape.image_rows - 1) * (two - text_too))

    def _step(self, shape: StepShape) -> StepCosts:
        if shape not in self._steps:
            features, is_trained = self._features(shape.precision)
            with _explained(self._sizes.method):
                if shape.precision not in self._decoders:
                    self._decoders[shape.precision] = Decoder(self._sizes, shape.precision)
                self._steps[shape] = self._decoders[shape.precision].step(
                    shape, features=features, is_trained=is_trained
                )
        return self._steps[shape]

    def _features(self, precision: Precision) -> tuple[tuple[int, int], bool]:
        """Return N and C of an image's features, and whether they need a gradient."""
        if self._sizes.online:
            tower = self._tower(precision)
            return tower.shape, tower.is_trained
        return feature_shape(self._sizes.vision, self._sizes.method.tower_states), False

    def _tower(self, precision: Precision) -> TowerCosts:
        if precision not in self._towers:
            with _explained(self._sizes.method):
                self._towers[precision] = measure_tower(self._sizes, precision)
        return self._towers[precision]


def _layers_forward(costs: StepCosts) -> int:
    return costs.layers_forward


def _images_forward(costs: StepCosts) -> int:
    return costs.images_forward


def _backward(costs: StepCosts) -> int:
    return costs.backward


def _measured_precision(precision: Precision) -> Precision:
    return "fp32" if precision == "fp32" else _HALF


def _interpolate(places: Sequence[int], values: Sequence[int], place: int) -> Fraction:
    """Return the value at a place of the polynomial through these ones (Lagrange)."""
    total = Fraction(0)
    for one, value in zip(places, values, strict=True):
        term = Fraction(value)
        for other in places:
            if other != one:
                term *= Fraction(place - other, one - other)
        total += term
    return total


@contextmanager
def _explained(settings: MethodSettings) -> Iterator[None]:
    """Say of what goes wrong in a method's own code that its costs are not known.

    Raises:
        UnmeasurableError: something did.
    """
    started = time.monotonic()
    try:
        yield
    except AdemvlError:
        raise
    except Exception as error:
        raise UnmeasurableError(
            f"method.name: the costs of {settings.name} are not known, as its code does not run "
            f"on tensors without values: {type(error).__name__}: {error}"
        ) from error
    _log.debug("%s: measured in %.2f s", settings.name, time.monotonic() - started)
