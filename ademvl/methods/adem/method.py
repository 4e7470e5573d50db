"""The trained part outside the backbones: tables, projections, and what they make of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.methods.adem.rule import PHI, fuse_adem, fuse_memvp
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.multiscale import check_scales, pool_grid
from ademvl.methods.sites import Fuse
from ademvl.methods.tower_adapters import uninitialized_linear
from ademvl.randomness import derive_seed

KEY_TABLE_STD = 0.02  # reference implementation


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


@dataclass(frozen=True)
class VisualPrompt:
    """What one batch's images give to the language model, the same in every layer.

    Attributes:
        keys: (B, N, d), mapped by phi for the ADEM rule; None with the fusion off.
        values: (B, N, d); None with the fusion off.
        slots: vectors put before the text, (B_img, S, d), image rows only; None without any.
    """

    keys: Tensor | None
    values: Tensor | None
    slots: Tensor | None

    def repeated(self, times: int) -> "VisualPrompt":
        """Repeat the keys and values of each row side by side; slots stay as they are."""
        if times == 1 or self.keys is None or self.values is None:
            return self
        keys, values = (part.repeat_interleave(times, dim=0) for part in (self.keys, self.values))
        return VisualPrompt(keys=keys, values=values, slots=self.slots)


class AdemAdapter(nn.Module):
    """Tables and projections of ADEM-VL (paper: arXiv 2410.17779), kept in fp32.

    Only what the settings use is created: no [cls] projection without [cls], no tables with the
    fusion off. The tensors are uninitialised until `initialize` or a `load_state_dict`, so that a
    model on the `meta` device costs nothing.

    Args:
        settings: of the method.
        llm_width: d.
        tower_width: C.
    """

    def __init__(self, settings: AdemSettings, *, llm_width: int, tower_width: int) -> None:
        super().__init__()
        self.settings = settings
        build_projection = partial(
            Projection,
            tower_width=tower_width,
            hidden_width=settings.projection_width,
            llm_width=llm_width,
            is_linear=settings.projection_activation == "none",
        )
        has_fusion = settings.fusion != "none"
        self.key_table: nn.Parameter | None = None
        self.value_table: nn.Parameter | None = None
        if has_fusion:
            shape = (settings.num_visual_tokens, llm_width)
            self.key_table = nn.Parameter(torch.empty(shape))
            self.value_table = nn.Parameter(torch.empty(shape))
        uses_grid = has_fusion or settings.visual_tokens > 0
        self.grid_projection = build_projection() if uses_grid else None
        self.cls_projection = build_projection() if settings.cls else None

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set all tensors as the reference does: keys N(0, 0.02^2), values 0, Xavier-uniform.

        Each tensor draws from its own generator, derived from `seed` and its name, so that a
        setting which removes one leaves the others as they were.
        """
        for name, parameter in self.named_parameters():
            generator = torch.Generator().manual_seed(derive_seed(seed, "adapter", name))
            values = torch.zeros(parameter.shape)
            if name == "key_table":
                values.normal_(0.0, KEY_TABLE_STD, generator=generator)
            elif name.endswith("weight"):
                nn.init.xavier_uniform_(values, generator=generator)
            parameter.copy_(values)

    def check_grid(self, num_grid_tokens: int) -> None:
        """Raise SettingsError unless the settings' scales fit a tower's grid."""
        settings = self.settings
        used = settings.scales if settings.fusion != "none" else ()
        check_scales(
            (*used, settings.visual_tokens) if settings.visual_tokens else used,
            num_grid_tokens=num_grid_tokens,
        )

    def prompt(self, features: Tensor | None, has_image: Tensor) -> VisualPrompt:
        """Turn the features of a batch's images into keys, values and slot vectors.

        Rows without an image do no image work: their visual tokens are zero, so their keys and
        values are the tables alone; without `text_only_fusion` their values are zero. A batch
        without any image therefore gives the projections no gradient at all, where the reference
        multiplies by zero and gets zero gradients (`optimization.imageless_steps`).

        Args:
            features: (B_img, 1 + G, C), image rows only, in row order, any float dtype; None
                without any image.
            has_image: (B,) bool, best on the CPU, so that no device has to be waited for.

        Raises:
            ValueError: the number of features is not the number of image rows.
            SettingsError: a scale does not fit the grid.
        """
        rows = has_image.nonzero().squeeze(1)
        num_images = 0 if features is None else len(features)
        if num_images != len(rows):
            raise ValueError(f"features of {num_images} images for {len(rows)} rows with an image")
        shown = features.float() if features is not None and num_images else None
        keys, values = self._keys_and_values(shown, rows, batch_size=len(has_image))
        if values is not None and not self.settings.text_only_fusion:
            values = values * has_image.to(values.device)[:, None, None]  # (B, N, d)
        slots = None if shown is None else self._slots(shown)
        return VisualPrompt(keys=keys, values=values, slots=slots)

    def fuse_function(
        self, prompt: VisualPrompt, *, dtype: torch.dtype, dropout_seeds: Sequence[int] | None
    ) -> Fuse | None:
        """Return what the decoder layers call to fuse, None with the fusion off.

        Args:
            prompt: of the batch.
            dtype: in which scores, their threshold and the fused states are computed.
            dropout_seeds: one for each row, in training; for MemVP's rule only.
        """
        if prompt.keys is None or prompt.values is None:
            return None
        keys, values, settings = prompt.keys.to(dtype), prompt.values.to(dtype), self.settings
        gamma = settings.gamma if self.training else settings.gamma_in_evaluation

        def fuse_by_adem(queries: Tensor, target: Tensor, layer: int) -> Tensor:
            return fuse_adem(
                queries,
                keys,
                values,
                target=target,
                alpha=settings.alpha,
                gamma=gamma,
                phi=settings.phi,
                drop_by=settings.drop_by,
            )

        def fuse_by_memvp(queries: Tensor, target: Tensor, layer: int) -> Tensor:
            return fuse_memvp(
                queries,
                keys,
                values,
                target=target,
                alpha=settings.alpha,
                dropout_seeds=dropout_seeds,
                purpose=f"memvp.{layer}",
            )

        rules: dict[str, Fuse] = {"adem": fuse_by_adem, "memvp": fuse_by_memvp}
        return rules[settings.fusion]

    def visual_tokens(self, features: Tensor) -> Tensor:
        """Return V = beta * projected multiscale grid: (B_img, N, d) of (B_img, 1 + G, C)."""
        return self.settings.beta * self._project_grid(features, self.settings.scales)

    def _keys_and_values(
        self, features: Tensor | None, rows: Tensor, *, batch_size: int
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.key_table is None or self.value_table is None:
            return None, None
        # MemVP's rule maps the scores instead of the keys.
        phi = PHI[self.settings.phi if self.settings.fusion == "adem" else "identity"]
        shape = (batch_size, *self.key_table.shape)
        if features is None:
            return phi(self.key_table).expand(shape), self.value_table.expand(shape)
        visual = self.visual_tokens(features)  # (B_img, N, d)
        if len(rows) < batch_size:
            rows = rows.to(visual.device)
            visual = visual.new_zeros(shape).index_copy(0, rows, visual)  # (B, N, d)
        return phi(visual + self.key_table), visual + self.value_table

    def _slots(self, features: Tensor) -> Tensor | None:
        parts = []
        if self.cls_projection is not None:
            parts.append(self.cls_projection(features[:, :1]))  # (B_img, 1, d)
        if self.settings.visual_tokens:
            parts.append(self._project_grid(features, (self.settings.visual_tokens,)))
        return torch.cat(parts, dim=1) if parts else None  # (B_img, S, d)

    def _project_grid(self, features: Tensor, scales: tuple[int, ...]) -> Tensor:
        if self.grid_projection is None:
            raise SettingsError("method: these settings use no projected image tokens")
        grid, pool = features[:, 1:], self.settings.pool
        if self.settings.pool_order == "pool_then_project":
            projected: Tensor = self.grid_projection(pool_grid(grid, scales, pool=pool))
            return projected
        return pool_grid(self.grid_projection(grid), scales, pool=pool)
