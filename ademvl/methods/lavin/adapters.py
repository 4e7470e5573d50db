"""LaVIN's adapters: bottlenecks in two groups, mixed by a router or plain; and those in the tower.

What a router sees decides for all that it routes, so adapters come in two steps: `mixture`, of the
states that decide, and the map itself. Each mixes its experts in one product: hidden states times
either weight, and the weights themselves for the biases, by the stacked matrices of both.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.machine.precision import compute_dtype
from ademvl.methods.dropout import drop_rows
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.projection import uninitialized_linear
from ademvl.methods.sites import Attachment
from ademvl.methods.tower_adapters import SeededAdapters
from ademvl.vision.tower import TowerShape, VisionTower

EXPERTS = 2


class GroupedLinear(nn.Module):
    """Linear map of r inputs to c outputs, both even: either half depends on one half."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs // 2))
        self.bias = nn.Parameter(torch.empty(num_outputs))

    def matrix(self) -> Tensor:
        """Return the map without its bias, (r, c), with zeros between the groups."""
        first, second = self.weight.chunk(2)  # (c / 2, r / 2) each
        return torch.block_diag(first.T, second.T)


class RoutedAdapter(nn.Module):
    """R(n; w) = n + s w_0 up_0(z) + s w_1 up_1(z), z = dropout(down(n)); kept in fp32.

    Source: LaVIN (arXiv 2305.15023), and its released implementation for what the paper leaves out:
    no non-linearity, ups in two groups, identity inside.

    Args:
        settings: its `dim` is the bottleneck r, `scale` s and `temperature` that of the mixture w.
        width: c, of the states that it adapts: the language model's d, or the tower's C.
    """

    def __init__(self, settings: LavinSettings, *, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.down = uninitialized_linear(width, settings.dim)
        self.experts = nn.ModuleList(GroupedLinear(settings.dim, width) for _ in range(EXPERTS))
        self.router = uninitialized_linear(width, EXPERTS)

    def mixture(self, deciding: Tensor) -> Tensor:
        """Return the experts' weights, (..., 2): softmax(router(v) / temperature).

        Args:
            deciding: normalised states v, (..., c).
        """
        dtype = compute_dtype(deciding.device, deciding.dtype)
        values = _linear(deciding, self.router, dtype)
        return (values.float() / self.settings.temperature).softmax(dim=-1).to(dtype)

    def stacked(self, dtype: torch.dtype) -> Tensor:
        """Return both experts' matrices and biases, scaled: (2 r + 2, c)."""
        experts = [cast(GroupedLinear, expert) for expert in self.experts]
        matrices = [expert.matrix() for expert in experts]
        biases = [expert.bias[None] for expert in experts]
        return (self.settings.scale * torch.cat((*matrices, *biases))).to(dtype)

    def forward(
        self,
        states: Tensor,
        mixture: Tensor,
        stacked: Tensor,
        *,
        seeds: Sequence[int] | None,
        purpose: str,
    ) -> Tensor:
        """Map normalised states n, (B, T, c), to what attention gets; same shape and dtype.

        Args:
            states: n, behind the layer's norm; also what the adapter's change is added to.
            mixture: (B or 1, T or 1, 2), as `mixture` gives it.
            stacked: as `stacked` gives it, which decides the dtype of all products.
            seeds: of the dropout, one for each of the B rows; None switches it off.
            purpose: name of this adapter, for the dropout.
        """
        hidden = _linear(states, self.down, stacked.dtype)  # (B, T, r)
        hidden = drop_rows(hidden, seeds, p=self.settings.dropout, purpose=purpose)
        weights = mixture.expand(*hidden.shape[:2], EXPERTS)
        parts = [weights[..., [number]] * hidden for number in range(EXPERTS)]
        mixed = torch.cat((*parts, weights), dim=-1).flatten(0, 1)  # (B T, 2 r + 2)
        rows = states.flatten(0, 1)
        if states.dtype == stacked.dtype:
            return torch.addmm(rows, mixed, stacked).view_as(states)
        return states + (mixed @ stacked).to(states.dtype).view_as(states)


class PlainAdapter(nn.Module):
    """up(dropout(down(n))) without identity, the released code's `normal`; see `RoutedAdapter`.

    Args:
        settings: its `dim` is the bottleneck r; scale and temperature play no part.
        width: c, of the states that it adapts.
    """

    def __init__(self, settings: LavinSettings, *, width: int) -> None:
        super().__init__()
        self.settings = settings
        self.down = uninitialized_linear(width, settings.dim)
        self.up = GroupedLinear(settings.dim, width)

    def forward(self, states: Tensor, *, seeds: Sequence[int] | None, purpose: str) -> Tensor:
        """Map (B, N, c) to the same shape and dtype; see `RoutedAdapter.forward`."""
        dtype = compute_dtype(states.device, states.dtype)
        hidden = _linear(states, self.down, dtype)
        hidden = drop_rows(hidden, seeds, p=self.settings.dropout, purpose=purpose)
        mapped = hidden @ self.up.matrix().to(dtype) + self.up.bias.to(dtype)
        return mapped.to(states.dtype)


def _linear(states: Tensor, layer: nn.Linear, dtype: torch.dtype) -> Tensor:
    """Apply a layer that is kept in fp32 in another format."""
    return F.linear(states.to(dtype), layer.weight.to(dtype), layer.bias.to(dtype))


_ATTENTION_NORMS = ("ln_1", "norm1", "layer_norm1")  # of open_clip; timm and DINO; SigLIP


class TowerAdapters(SeededAdapters):
    """An adapter between norm and attention in each block of a tower, by block number.

    Args:
        settings: `tower_adapters` says of which kind they are, `tower_routing` what mixes them.
        tower: its number of blocks is that of the adapters, though later ones may never be read.
    """

    def __init__(self, settings: LavinSettings, tower: TowerShape) -> None:
        kind = RoutedAdapter if settings.tower_adapters == "routed" else PlainAdapter
        super().__init__(
            {str(block): kind(settings, width=tower.width) for block in range(tower.num_blocks)}
        )
        self._settings = settings

    def unused(self) -> Iterator[str]:
        """Yield the names of parameters in blocks behind the last one that is read."""
        for name, _ in self.named_parameters():
            if int(name.partition(".")[0]) > max(self._settings.cls_blocks):
                yield name

    def attach(self, tower: VisionTower, attachment: Attachment) -> None:
        """Let every block's first norm return what attention gets of the adapter.

        Raises:
            SettingsError: the tower's blocks have no norm in front of an attention.
        """
        for block, adapter in self.items():
            own = tower.blocks[int(block)]
            norms = (getattr(own, name, None) for name in _ATTENTION_NORMS)
            norm = next((norm for norm in norms if norm is not None), None)
            if norm is None:
                raise SettingsError(
                    f"features.mode: online, but blocks of {tower.name} have no attention before "
                    "which method lavin trains adapters; use a vision transformer"
                )
            handle = norm.register_forward_hook(self._hook(f"lavin.tower.{block}", adapter))
            attachment.on_detach(handle.remove)

    def _hook(self, purpose: str, adapter: nn.Module) -> Callable[..., Tensor]:
        def adapt(norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
            if isinstance(adapter, PlainAdapter):
                plain: Tensor = adapter(output, seeds=self._seeds, purpose=purpose)
                return plain
            return self._route(output, cast(RoutedAdapter, adapter), purpose)

        return adapt

    def _route(self, states: Tensor, adapter: RoutedAdapter, purpose: str) -> Tensor:
        """Mix at each place by the states that decide it, in (B_img, 1 + G, C)."""
        is_own = self._settings.tower_routing == "own_image"
        mixture = adapter.mixture(states if is_own else states[:1])
        stacked = adapter.stacked(mixture.dtype)
        routed: Tensor = adapter(states, mixture, stacked, seeds=self._seeds, purpose=purpose)
        return routed
