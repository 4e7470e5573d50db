"""Which decoder layers a method treats alike, so that one of each kind stands for all of them."""

from collections.abc import Hashable
from typing import NamedTuple

from torch import nn

from ademvl.methods.base import Method
from ademvl.methods.sites import decoder_layers

_NOTHING = ((), False, False, ())


class LayerKind(NamedTuple):
    """Layers that a method treats alike.

    Attributes:
        touch: what the method does in them.
        is_before: whether they stand in front of all that the method touches.
        numbers: of the layers, counted from 0, ascending.
    """

    touch: Hashable
    is_before: bool
    numbers: tuple[int, ...]


def layer_kinds(method: Method, llm: nn.Module) -> list[LayerKind]:
    """Group a decoder's layers by what a method does in them.

    Two layers are alike where the method visits the same positions, adds to the attention of both
    or of neither, tunes both or neither, and trains tensors of the same shapes inside them. Layers
    in front of the first one that it touches are no part of the backward pass where the text brings
    nothing that is trained, and the first one is so in part only: they are kinds of their own.

    Args:
        method: attached to `llm`.
        llm: with all its layers.
    """
    touches = [_touch(method, number, layer) for number, layer in enumerate(decoder_layers(llm))]
    first = next((n for n, touch in enumerate(touches) if touch != _NOTHING), 0)
    kinds: dict[tuple[bool, bool, Hashable], list[int]] = {}
    for number, touch in enumerate(touches):
        kinds.setdefault((number < first, number == first, touch), []).append(number)
    return [
        LayerKind(touch, is_before, tuple(numbers))
        for (is_before, _, touch), numbers in kinds.items()
    ]


def _touch(method: Method, number: int, layer: nn.Module) -> Hashable:
    visited = tuple(position for position, numbers in method.places().items() if number in numbers)
    trained = tuple(
        (name, parameter.shape)
        for name, parameter in layer.named_parameters()
        if parameter.requires_grad
    )
    is_tuned = number in method.tuned_layers()
    return visited, number in method.attending_layers(), is_tuned, trained
