"""Linear maps from the vision tower's width to the language model's, and how they start."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def uninitialized_linear(num_inputs: int, num_outputs: int, *, bias: bool = True) -> nn.Linear:
    """Build a linear layer without drawing its weights from the global generator."""
    with torch.device("meta"):
        layer = nn.Linear(num_inputs, num_outputs, bias=bias)
    # Stays on `meta` where the surrounding code asks for it, as when parameters are counted.
    return layer.to_empty(device=torch.get_default_device())


class Projection(nn.Module):
    """Two-layer map from the tower's width to the language model's: up(silu(down(x))).

    The paper (arXiv 2410.17779, section 3) calls it linear; the reference implementation has the
    SiLU, which `is_linear` leaves out.
    """

    def __init__(
        self, *, tower_width: int, hidden_width: int, llm_width: int, is_linear: bool
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
