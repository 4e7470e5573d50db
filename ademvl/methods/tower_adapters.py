"""Trained bottleneck adapters inside a vision tower's blocks, beside each block's MLP."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.config.method import ClipAdapterSettings
from ademvl.errors import SettingsError
from ademvl.methods.base import Method
from ademvl.methods.dropout import drop_rows
from ademvl.methods.projection import uninitialized_linear
from ademvl.methods.sites import Attachment
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape, VisionTower


class ClipAdapter(nn.Module):
    """Bottleneck: scale * up(dropout(gelu(down(x)))), no biases, kept in fp32.

    The reference sets dropout's masks by the global generator; here each image brings a seed.

    Args:
        settings: `dim` is the bottleneck r; `scale` and `dropout` are those of the formula.
        tower_width: C, of what goes in and comes out.
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
        """Map (B, P + G, C), P tokens before the grid, to the branch's contribution, same shape.

        Args:
            states: normalised input of the block's MLP.
            seeds: of the dropout, one for each image; None switches it off.
            purpose: name of this adapter, for the dropout.
        """
        bottleneck = F.gelu(self.down(states))  # (B, P + G, r), exact GELU
        bottleneck = drop_rows(bottleneck, seeds, p=self.settings.dropout, purpose=purpose)
        branch: Tensor = self.up(bottleneck)
        return self.settings.scale * branch


class SeededAdapters(nn.ModuleDict):
    """Adapters in blocks of a tower, by block number, whose dropout each image decides.

    Args:
        adapters: by block number as text, which is part of the parameters' names.
    """

    def __init__(self, adapters: Mapping[str, nn.Module]) -> None:
        super().__init__(adapters)
        self._seeds: Sequence[int] | None = None

    @contextmanager
    def seeded(self, seeds: Sequence[int] | None) -> Iterator[None]:
        """Open a block in which these seeds, one for each image, decide dropout; None for none."""
        self._seeds = seeds
        try:
            yield
        finally:
            self._seeds = None


class TowerAdapters(SeededAdapters):
    """A bottleneck adapter beside each block's MLP, by block number; uninitialised.

    Paper: arXiv 2410.17779; reference implementation: the adapters of all blocks exist, though that
    of the last one never runs (`last_block` leaves it out).

    Args:
        settings: the same for all of them.
        tower: its number of blocks and width decide theirs.
    """

    def __init__(self, settings: ClipAdapterSettings, tower: TowerShape) -> None:
        num_adapters = tower.num_blocks if settings.last_block else tower.num_blocks - 1
        super().__init__(
            {str(i): ClipAdapter(settings, tower_width=tower.width) for i in range(num_adapters)}
        )
        self._num_blocks = tower.num_blocks

    def initialize(self, seed: int) -> None:
        """Draw the adapters anew; each depends on `seed` and its block only."""
        for block, adapter in self.items():
            cast(ClipAdapter, adapter).initialize(seed, block)

    def attach(self, tower: VisionTower, attachment: Attachment) -> None:
        """Let every block's MLP return mlp(x) + adapter(x).

        Where a block scales what its MLP gives (DINOv2, ConvNeXt), the adapter's part is scaled
        with it.

        Raises:
            SettingsError: the tower's blocks have no MLP.
        """
        for block, adapter in self.items():
            mlp = getattr(tower.blocks[int(block)], "mlp", None)
            if mlp is None:
                raise SettingsError(
                    f"features.mode: online, but blocks of {tower.name} have no MLP beside which "
                    "adapters are trained; set it to cached"
                )
            handle = mlp.register_forward_hook(self._hook(block, cast(ClipAdapter, adapter)))
            attachment.on_detach(handle.remove)

    def _hook(self, block: str, adapter: ClipAdapter) -> Callable[..., Tensor]:
        def add_branch(mlp: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
            branch = adapter(args[0], seeds=self._seeds, purpose=f"clip_adapter.{block}")
            return output + branch

        return add_branch

    def unused(self) -> Iterator[str]:
        """Yield the names of the last block's parameters, where it has any: it never runs."""
        last = str(self._num_blocks - 1)
        if last in self:
            yield from (f"{last}.{name}" for name, _ in self[last].named_parameters())


class TowerAdaptedMethod(Method):
    """A method that trains a bottleneck adapter beside each MLP of the tower, too.

    Attributes:
        clip_adapters: None with cached features, whose tower is not trained.
    """

    clip_adapters: TowerAdapters | None

    def add_tower_adapters(self, settings: ClipAdapterSettings) -> None:
        """Create the adapters; to be called last in a constructor, as their names come last."""
        self.clip_adapters = (
            TowerAdapters(settings, self.tower_shape) if self.trains_tower else None
        )

    def attach_in_tower(self, tower: VisionTower, attachment: Attachment) -> None:
        """Hook the adapters into the tower's blocks."""
        if self.clip_adapters is not None:
            self.clip_adapters.attach(tower, attachment)

    def encode(
        self,
        tower: VisionTower,
        pixels: Tensor,
        *,
        dropout_seeds: Sequence[int] | None,
        has_image: Tensor | None = None,
    ) -> Tensor:
        """Return the features of images through the adapted tower, see `Method.encode`."""
        if self.clip_adapters is None:
            return super().encode(tower, pixels, dropout_seeds=dropout_seeds)
        with self.clip_adapters.seeded(dropout_seeds):
            return super().encode(tower, pixels, dropout_seeds=dropout_seeds)

    def parameters_outside_tower(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield names and parameters of all but the tower's adapters."""
        for name, parameter in self.named_parameters():
            if not name.startswith("clip_adapters."):
                yield name, parameter

    def unused(self) -> frozenset[str]:
        """Return the adapter of the tower's last block, which never runs."""
        adapters = () if self.clip_adapters is None else self.clip_adapters.unused()
        return frozenset(f"clip_adapters.{name}" for name in adapters)
