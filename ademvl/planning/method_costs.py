"""What the planner has to know of a method's step, whether by formula or by measurement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ademvl.errors import SettingsError
from ademvl.machine.devices import DeviceType
from ademvl.planning.sizes import MicroBatch, Numerics


class UnmeasurableError(SettingsError):
    """What a method costs is not known: its code needs values of tensors, or fails."""


@dataclass(frozen=True, kw_only=True)
class KeptBytes:
    """What a forward pass keeps for the backward pass.

    Attributes:
        layers: in all decoder layers and the final norm.
        one_layer: in that layer which keeps most.
        tower: in the tower, online.
        tower_copies: half copies of the tower's weights, online.
        images: what the images are to the decoder (keys, values, their gradients), what is kept to
            compute it, and the pixels or features themselves.
    """

    layers: int
    one_layer: int
    tower: int
    tower_copies: int
    images: int


class MethodCosts(Protocol):
    """Costs of a method on models of certain sizes.

    Operations are counted as torch's FlopCounterMode does, of one pass of a batch; the output layer
    is left out, as it is the same for all methods.

    Raises:
        UnmeasurableError: by each of its methods but `trained`, where there is no formula and
            measuring failed.
    """

    def trained(self) -> Mapping[str, int]:
        """Count the trained parameters of each part."""

    def layers_forward(self, batch: MicroBatch) -> int:
        """Count the forward pass of all decoder layers."""

    def layers_forward_cached(self, rows: int, image_rows: int, *, cached: int) -> int:
        """Count one token more of each row, behind `cached` ones in a key-value cache."""

    def images_forward(self, batch: MicroBatch) -> int:
        """Count what turns features into what the decoder sees of them."""

    def backward(self, batch: MicroBatch, *, checkpointing: bool) -> int:
        """Count the backward pass of layers and images, down to the features.

        With checkpointing transformers lets the text's vectors have a gradient, so that all layers
        take part. What is computed again is not counted here.
        """

    def tower(self, num_images: int, *, training: bool) -> int:
        """Count the tower's pass over images, with its backward pass in training."""

    def kept(self, numerics: Numerics, batch: MicroBatch, *, device: DeviceType) -> KeptBytes:
        """Return what is kept without checkpointing."""
