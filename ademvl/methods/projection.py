"""Linear maps from the vision tower's width to the language model's, and how they start."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.randomness import derive_seed


def uninitialized_linear(num_inputs: int, num_outputs: int, *, bias: bool = True) -> nn.Linear:
    """Build a linear layer without drawing its weights from the global generator."""
    with torch.device("meta"):
        layer = nn.Linear(num_inputs, num_outputs, bias=bias)
    device = torch.get_default_device()
    # Stays on `meta` where the surrounding code asks for it, as when parameters are counted.
    return layer if device.type == "meta" else layer.to_empty(device=device)


@torch.no_grad()
def draw_linear(layer: nn.Linear, seed: int, name: str) -> None:
    """Draw weight and bias as torch's Linear does, uniformly within 1 / sqrt(inputs) of 0.

    Args:
        layer: whose weight and bias, if it has one, are overwritten.
        seed: of the method; together with `name` it decides all values.
        name: tells layers of one method apart, which would else be drawn alike.
    """
    bound = layer.in_features**-0.5
    for part, parameter in layer.named_parameters():
        generator = torch.Generator().manual_seed(derive_seed(seed, name, part))
        values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
        parameter.copy_(values)


class Projection(nn.Module):
    """Two-layer map from the tower's width to the language model's: up(silu(down(x))).

    The paper (arXiv 2410.17779, section 3) calls it linear; the reference implementation has the
    SiLU, which `is_linear` leaves out.
    """

    def __init__(
        self, *, tower_width: int, hidden_width: int, llm_width: int, is_linear: bool = False
    ) -> None:
        super().__init__()
        self._is_linear = is_linear
        self.down = uninitialized_linear(tower_width, hidden_width)
        self.up = uninitialized_linear(hidden_width, llm_width)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., C) to (..., d)."""
        hidden = self.down(features)
        projected: Tensor = self.up(hidden if self._is_linear else F.silu(hidden))
        return projected
