"""Measures one step of a method on models without values: operations, and what autograd keeps."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ademvl.config.run import Precision
from ademvl.machine.precision import autocast
from ademvl.methods.sites import decoder_layers
from ademvl.planning.layer_kinds import layer_kinds
from ademvl.planning.ledger import Ledger, Part, Valueless
from ademvl.planning.random_model import build_random_model, random_batch
from ademvl.planning.sizes import ModelSizes, Numerics


class StepShape(NamedTuple):
    """Of a measured step.

    Attributes:
        precision: of the language model.
        rows: B.
        image_rows: rows with an image.
        width: T.
        is_whole: whether the text's vectors have a gradient whatever the method does.
    """

    precision: Precision
    rows: int
    image_rows: int
    width: int
    is_whole: bool = False


class StepCosts(NamedTuple):
    """What one batch costs; operations, and bytes that autograd keeps.

    Attributes:
        images_forward: from features to what the decoder sees.
        layers_forward: all decoder layers.
        backward: of both.
        layers_kept: by all layers and the final norm.
        layer_kept: by that layer which keeps most.
        images_kept: for the images, with the gradients of what layers see of them.
    """

    images_forward: int
    layers_forward: int
    backward: int
    layers_kept: int
    layer_kept: int
    images_kept: int


class TowerCosts(NamedTuple):
    """What the tower costs with the method's modules inside it.

    Attributes:
        forward, backward: operations of one image.
        kept: bytes that autograd keeps of one image.
        copies: bytes of the weights' half copies.
        shape: N and C, of an image's features.
        is_trained: whether the features need a gradient.
    """

    forward: int
    backward: int
    kept: int
    copies: int
    shape: tuple[int, int]
    is_trained: bool


class Decoder:
    """A decoder without values, with one layer of each kind, and the method on it."""

    def __init__(self, sizes: ModelSizes, precision: Precision) -> None:
        cached = ModelSizes(sizes.llm, sizes.vision, sizes.method, 0, online=False)
        self._sizes = cached
        self._precision = precision
        self._model = build_random_model(cached, Numerics(precision=precision), device="meta")
        self.kinds = layer_kinds(self._model.method, self._model.llm)
        self._values = Valueless()
        self._layers = self._keep_one_of_each()
        self._values.take(self._model)

    def _keep_one_of_each(self) -> dict[int, nn.Module]:
        layers = decoder_layers(self._model.llm)
        chosen = {kind.numbers[0]: layers[kind.numbers[0]] for kind in self.kinds}
        self._model.llm.model.layers = nn.ModuleList(chosen.values())
        return chosen

    def step(self, shape: StepShape, *, features: tuple[int, int], is_trained: bool) -> StepCosts:
        """Measure one forward and backward pass without the output layer.

        Args:
            shape: of the batch.
            features: N and C, of an image's features.
            is_trained: whether features need a gradient, as modules inside the tower are trained.
        """
        rows, num_images = shape.rows, shape.image_rows
        lengths = [shape.width] * rows
        batch = random_batch(self._sizes, lengths=lengths, scored=1, image_rows=num_images)
        visual = None
        if num_images:
            visual = self._values.tensor(num_images, *features).requires_grad_(is_trained)
        known = [*self._model.parameters(), *self._model.buffers()]
        ledger = Ledger([*known, *([] if visual is None else [visual])], part="images")
        with ledger, ledger.keeping(), ledger.following(self._layers), _autocast(self._precision):
            opening = self._model.opened(visual, batch.has_image, dropout_seeds=list(range(rows)))
            with opening as opened:
                ledger.part = "rest"
                text = self._model.embed(batch.input_ids, batch.slot_start, opened.with_image)
                if shape.is_whole and not text.requires_grad:
                    text.requires_grad_()
                states = self._model.decode(text)[0]
        forward, backward = ledger.flops, _run_backward(ledger, states)
        self._model.zero_grad(set_to_none=True)
        kept = ledger.kept_bytes
        return StepCosts(
            images_forward=forward["images"],
            layers_forward=self._of_all_layers(forward) + forward["rest"],
            backward=self._of_all_layers(backward) + backward["rest"] + backward["images"],
            layers_kept=self._of_all_layers(kept) + kept["rest"],
            layer_kept=max(kept[kind.numbers[0]] for kind in self.kinds),
            images_kept=kept["images"],
        )

    def _of_all_layers(self, by_part: Mapping[Part, int]) -> int:
        return sum(len(kind.numbers) * by_part[kind.numbers[0]] for kind in self.kinds)


def measure_tower(sizes: ModelSizes, precision: Precision) -> TowerCosts:
    """Measure a pass over one image and back, and another over two: the rest is the same."""
    model = build_random_model(sizes, Numerics(precision=precision), device="meta")
    tower, method = model.tower, model.method
    if tower is None:
        raise ValueError("no tower without online features")
    values = Valueless()
    values.take(tower, method)

    def encode(num_images: int) -> tuple[Ledger, Tensor]:
        side = sizes.vision.image_size
        pixels = values.tensor(num_images, 3, side, side)
        known = [*tower.parameters(), *tower.buffers(), *method.parameters(), pixels]
        ledger = Ledger(known, part="tower")
        with ledger, ledger.keeping(), _autocast(precision):
            features = method.encode(tower, pixels, dropout_seeds=list(range(num_images)))
        return ledger, features

    two, _ = encode(2)
    one, features = encode(1)
    backward = _run_backward(one, features)
    kept = two.kept_bytes["tower"] - one.kept_bytes["tower"]
    _, num_tokens, width = features.shape
    return TowerCosts(
        forward=one.flops["tower"],
        backward=backward["tower"],
        kept=kept,
        copies=one.kept_bytes["tower"] - kept,
        shape=(num_tokens, width),
        is_trained=features.requires_grad,
    )


def _run_backward(ledger: Ledger, result: Tensor) -> Counter[Part]:
    """Return the operations of the backward pass from a result; none where nothing is trained."""
    forward, ledger.flops = ledger.flops, Counter()
    if result.requires_grad:
        with ledger:
            result.float().sum().backward()
    backward, ledger.flops = ledger.flops, forward
    return backward


def _autocast(precision: Precision) -> torch.autocast:
    return autocast(torch.device("cpu"), precision)
