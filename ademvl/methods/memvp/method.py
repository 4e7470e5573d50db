"""MemVP (arXiv 2405.05615): the image as rows of a memory beside every layer's MLP."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.methods.base import DecoderShape, rows_with_image, spread_rows
from ademvl.methods.dropout import drop_rows
from ademvl.methods.fusing import FusingPass, add_attended
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.methods.projection import Projection
from ademvl.methods.registry import implements
from ademvl.methods.sites import Pass, Position
from ademvl.methods.tower_adapters import TowerAdaptedMethod
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape

MEMVP_DROPOUT = 0.1  # of the released code, and of the baseline in ADEM-VL's ablation
KEY_TABLE_STD = 0.02  # released implementation
MODALITIES = 2  # rows of the table: text alone, and with an image


@implements(MemvpSettings)
class MemvpMethod(TowerAdaptedMethod):
    """MemVP on a frozen decoder (paper: arXiv 2405.05615; sizes of its released code for LLaMA).

    In each layer, n being the normalised input of the MLP:
    out = h + mlp(n) + alpha * dropout(silu(n (V + e1)^T)) (V + e2), with V = beta * projected grid,
    and rows of zeros behind it where the tables are longer than the grid.

    The released code also builds, counts and saves a table of modalities that nothing uses.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the tables have fewer rows than the tower's grid.
    """

    settings: MemvpSettings

    def __init__(
        self,
        settings: MemvpSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        shape = (settings.table_rows, llm.width)
        self.key_table = nn.Parameter(torch.empty(shape))
        self.value_table = nn.Parameter(torch.empty(shape))
        self.modality_table = nn.Parameter(torch.empty(MODALITIES, llm.width))
        self.grid_projection = Projection(
            tower_width=tower.width, hidden_width=settings.projection_width, llm_width=llm.width
        )
        self.add_tower_adapters(settings.clip_adapter)

    def places(self) -> Mapping[Position, range]:
        """Return the inputs and outputs of all MLPs."""
        layers = range(self.llm_shape.layers)
        return {"mlp_in": layers, "mlp_out": layers}

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set all tensors as the released code does.

        Keys N(0, 0.02^2), values 0, projection Xavier-uniform with zero biases, modalities N(0, 1).
        """
        for name, parameter in self.parameters_outside_tower():
            generator = torch.Generator().manual_seed(derive_seed(seed, "memvp", name))
            values = torch.zeros(parameter.shape)
            if name == "key_table":
                values.normal_(0.0, KEY_TABLE_STD, generator=generator)
            elif name == "modality_table":
                values.normal_(generator=generator)
            elif name.endswith("weight"):
                nn.init.xavier_uniform_(values, generator=generator)
            parameter.copy_(values)
        if self.clip_adapters is not None:
            self.clip_adapters.initialize(seed)

    def unused(self) -> frozenset[str]:
        """Return the table of modalities, and the adapter of the tower's last block."""
        return super().unused() | {"modality_table"}

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Turn the grids of a batch's images into keys and values; see `Method.open`.

        Args:
            features: (B_img, 1 + G, C); [cls] is not used.
            has_image: (B,) bool; rows without an image have V = 0 and pass through the memory too.
            dtype: of keys and values, which are made in fp32 and then rounded.
            dropout_seeds: one for each row, in training.
        """
        rows = rows_with_image(features, has_image)
        batch_size = len(has_image)
        shape = (batch_size, *self.key_table.shape)
        if features is None or not len(features):
            keys, values = self.key_table.expand(shape), self.value_table.expand(shape)
        else:
            visual = self.visual_prompt(features)  # (B_img, N, d)
            visual = spread_rows(visual, rows, batch_size=batch_size)  # (B, N, d)
            keys, values = visual + self.key_table, visual + self.value_table

        def fuse(
            queries: Tensor, keys: Tensor, values: Tensor, *, target: Tensor, layer: int
        ) -> Tensor:
            p, purpose = self.settings.dropout, f"memvp.{layer}"
            drop = partial(drop_rows, seeds=dropout_seeds, p=p, purpose=purpose)
            return fuse_memvp(
                queries, keys, values, target=target, alpha=self.settings.alpha, drop=drop
            )

        return FusingPass(
            keys.to(dtype), values.to(dtype), fuse, query_from="mlp_in", add_to="mlp_out"
        )

    def visual_prompt(self, features: Tensor) -> Tensor:
        """Return V, (B_img, N, d) of (B_img, 1 + G, C): scaled projected grid, then zeros."""
        visual: Tensor = self.settings.beta * self.grid_projection(features[:, 1:].float())
        num_grid_tokens = self.tower_shape.num_grid_tokens
        if visual.shape[1] != num_grid_tokens:
            raise ValueError(f"{visual.shape[1]} grid tokens, expected {num_grid_tokens}")
        num_more = len(self.key_table) - num_grid_tokens
        return F.pad(visual, (0, 0, 0, num_more))


def fuse_memvp(
    hidden_states: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    target: Tensor,
    alpha: float,
    drop: Callable[[Tensor], Tensor],
) -> Tensor:
    """Add visual tokens by MemVP's rule: target + alpha * drop(silu(queries keys^T)) values.

    Args:
        hidden_states: the queries, (B, T, d); brought to the dtype of `keys`.
        keys: not mapped, (B, N, d).
        values: (B, N, d), dtype of `keys`.
        target: what the fused states are added to, (B, T, d).
        alpha: factor of the fused states.
        drop: dropout of the scores, (B, T, N), in training.

    Returns:
        (B, T, d), dtype of `target`.
    """
    scores = F.silu(torch.bmm(hidden_states.to(keys.dtype), keys.transpose(1, 2)))  # (B, T, N)
    return add_attended(target, drop(scores), values, alpha=alpha)
