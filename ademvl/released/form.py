"""How the authors of a method write its adapters; each method has a class of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.errors import WeightsError


class ReleasedForm(ABC):
    """Names of tensors and arguments of the command line, there and here.

    Attributes:
        method: name of the method.
        train_format: of the prompts of ScienceQA that it is trained with, where no argument tells.
        sized_by: tensor of ours whose last axis is as wide as the language model.
    """

    method: ClassVar[str]
    train_format: ClassVar[str]
    sized_by: ClassVar[str]

    @abstractmethod
    def from_released(self, state: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
        """Rename the tensors of a checkpoint.

        Raises:
            WeightsError: lists names that are not known.
        """

    @abstractmethod
    def to_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename ours."""

    @abstractmethod
    def settings_of(
        self, args: Mapping[str, Any], state: Mapping[str, Tensor], *, num_blocks: int, source: str
    ) -> MethodSettings:
        """Return the settings of an adapter: sizes from its tensors, the rest from args.

        What neither tells is as in the authors' code.

        Args:
            args: of the command line that trained it.
            state: its tensors by our names.
            num_blocks: of the vision tower.
            source: where it comes from, for errors.

        Raises:
            WeightsError: tensors are missing, or do not fit the arguments.
        """

    @abstractmethod
    def arguments_of(self, settings: Any) -> dict[str, Any]:
        """Return the arguments of the method that the authors' scripts read."""

    @abstractmethod
    def nearest(self, settings: Any, *, num_blocks: int) -> MethodSettings:
        """Return the settings with those that the authors' code does not have as it has them."""


def needed_tensor(state: Mapping[str, Tensor], name: str, *, of: str, source: str) -> Tensor:
    """Return a tensor that every adapter of a method has.

    Raises:
        WeightsError: it is missing, or has no size.
    """
    if name not in state or not state[name].ndim:
        raise WeightsError(f"{source}: no adapter of {of}, {name} is missing")
    return state[name]


def number_argument(args: Mapping[str, Any], name: str, default: float, *, source: str) -> float:
    """Return an argument that is a number.

    Raises:
        WeightsError: it is none.
    """
    try:
        return float(args.get(name, default))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{source}: an argument is no number: {name}: {error}") from None


def clip_adapter_of(
    state: Mapping[str, Tensor], default: ClipAdapterSettings, *, num_blocks: int
) -> ClipAdapterSettings:
    """Return the settings of adapters beside the tower's MLPs; the default without any."""
    downs = {
        name: tensor
        for name, tensor in state.items()
        if name.startswith("clip_adapters.") and name.endswith(".down.weight")
    }
    dims = {tensor.shape[0] for tensor in downs.values()}
    if len(dims) != 1:
        return default
    return replace(default, dim=dims.pop(), last_block=len(downs) == num_blocks)
