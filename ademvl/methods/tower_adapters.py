"""Trained bottleneck adapters inside a vision tower's blocks, beside each block's MLP."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.config.method import ClipAdapterSettings
from ademvl.methods.dropout import drop_rows
from ademvl.randomness import derive_seed


def uninitialized_linear(num_inputs: int, num_outputs: int, *, bias: bool = True) -> nn.Linear:
    """Build a linear layer without drawing its weights from the global generator."""
    with torch.device("meta"):
        layer = nn.Linear(num_inputs, num_outputs, bias=bias)
    # Stays on `meta` where the surrounding code asks for it, as when parameters are counted.
    return layer.to_empty(device=torch.get_default_device())


class ClipAdapter(nn.Module):
    """Bottleneck: scale * up(dropout(gelu(down(x)))), no biases, kept in fp32.

    The reference sets dropout's masks by the global generator; here each image brings a seed.

    Args:
        settings: width, scale and dropout.
        tower_width: C.
    """

    def __init__(self, settings: ClipAdapterSettings, *, tower_width: int) -> None:
        super().__init__()
        self.settings = settings
        self.down = uninitialized_linear(tower_width, settings.dim, bias=False)
        self.up = uninitialized_linear(settings.dim, tower_width, bias=False)

    @torch.no_grad()
    def initialize(self, seed: int, name: str) -> None:
        """Set `up` to zero and `down` to torch's Linear default, drawn from (seed, name)."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "clip_adapter", name))
        values = torch.empty(self.down.weight.shape)
        nn.init.kaiming_uniform_(values, a=5**0.5, generator=generator)
        self.down.weight.copy_(values)
        self.up.weight.zero_()

    def forward(self, states: Tensor, *, seeds: Sequence[int] | None, purpose: str) -> Tensor:
        """Map (B, 1 + G, C) to the branch's contribution, same shape.

        Args:
            states: normalised input of the block's MLP.
            seeds: of the dropout, one for each image; None switches it off.
            purpose: name of this adapter, for the dropout.
        """
        bottleneck = F.gelu(self.down(states))  # (B, 1 + G, r), exact GELU
        bottleneck = drop_rows(bottleneck, seeds, p=self.settings.dropout, purpose=purpose)
        branch: Tensor = self.up(bottleneck)
        return self.settings.scale * branch


class DropoutSeeds:
    """Seeds of the current call of the tower, shared by its adapters; None switches dropout off."""

    def __init__(self) -> None:
        self.rows: Sequence[int] | None = None


class AdaptedMlp(nn.Module):
    """A block's MLP with the adapter beside it: mlp(x) + adapter(x)."""

    def __init__(
        self, original: nn.Module, adapter: nn.Module, seeds: DropoutSeeds, *, block: int
    ) -> None:
        super().__init__()
        self.original = original
        self.adapter = adapter
        self._seeds = seeds
        self._purpose = f"clip_adapter.{block}"

    def forward(self, states: Tensor) -> Tensor:
        """Map (B, 1 + G, C) to the same shape."""
        branch: Tensor = self.adapter(states, seeds=self._seeds.rows, purpose=self._purpose)
        original: Tensor = self.original(states)
        return original + branch
