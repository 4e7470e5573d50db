"""ADEM-VL: tables, projections and tower adapters, and what they make of images."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.methods.adem.keeping import (
    FixedKeeping,
    Keeping,
    LearnedKeeping,
    Relaxed,
    SparseKeeping,
)
from ademvl.methods.adem.rule import PHI, visual_scores
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.adem.thresholds import KeptPenalty, LearnedThreshold
from ademvl.methods.base import DecoderShape, FusionScores, ScoreGrids, rows_with_image, spread_rows
from ademvl.methods.dropout import drop_parts
from ademvl.methods.fusing import FusingPass
from ademvl.methods.multiscale import pool_grid
from ademvl.methods.projection import Projection
from ademvl.methods.registry import implements
from ademvl.methods.sites import Pass, Position
from ademvl.methods.tower_adapters import TowerAdaptedMethod
from ademvl.randomness import derive_seed
from ademvl.vision.tower import TowerShape

KEY_TABLE_STD = 0.02  # reference implementation


@implements(AdemSettings)
class AdemMethod(TowerAdaptedMethod):
    """ADEM-VL (paper: arXiv 2410.17779).

    Only what the settings use is created: no [cls] projection without [cls], no tables with the
    fusion off, no tower adapters with cached features, no threshold where gamma is fixed.

    Args:
        settings, llm, tower, trains_tower: see `Method`.

    Raises:
        SettingsError: the scales do not fit the tower's grid.
    """

    settings: AdemSettings

    def __init__(
        self,
        settings: AdemSettings,
        *,
        llm: DecoderShape,
        tower: TowerShape,
        trains_tower: bool,
    ) -> None:
        super().__init__(settings, llm=llm, tower=tower, trains_tower=trains_tower)
        has_fusion = settings.fusion_rule is not None
        build_projection = partial(
            Projection,
            tower_width=tower.width,
            hidden_width=settings.projection_width,
            llm_width=llm.width,
            is_linear=settings.projection_activation == "none",
        )
        self.key_table: nn.Parameter | None = None
        self.value_table: nn.Parameter | None = None
        if has_fusion:
            shape = (settings.num_visual_tokens, llm.width)
            self.key_table = nn.Parameter(torch.empty(shape))
            self.value_table = nn.Parameter(torch.empty(shape))
        self.grid_projection = build_projection() if has_fusion or settings.visual_tokens else None
        self.cls_projection = build_projection() if settings.cls else None
        self.threshold: LearnedThreshold | None = None
        if settings.learns_threshold:
            width = llm.width if settings.threshold == "per_token" else None
            self.threshold = LearnedThreshold(first=settings.gamma, layers=llm.layers, width=width)
        self.add_tower_adapters(settings.clip_adapter)

    def places(self) -> Mapping[Position, range]:
        """Return all layers, at the two positions of the settings."""
        if self.settings.fusion_rule is None:
            return {}
        layers = range(self.llm_shape.layers)
        return {self.settings.query_from: layers, self.settings.add_to: layers}

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set all tensors as the reference does: keys N(0, 0.02^2), values 0, Xavier-uniform.

        A learned threshold begins with zeros, and so at gamma.

        Each tensor draws from its own generator, derived from `seed` and its name, so that a
        setting which removes one leaves the others as they were.
        """
        for name, parameter in self.parameters_outside_tower():
            generator = torch.Generator().manual_seed(derive_seed(seed, "adapter", name))
            values = torch.zeros(parameter.shape)
            if name == "key_table":
                values.normal_(0.0, KEY_TABLE_STD, generator=generator)
            elif name.endswith("weight"):
                nn.init.xavier_uniform_(values, generator=generator)
            parameter.copy_(values)
        if self.clip_adapters is not None:
            self.clip_adapters.initialize(seed)

    def lr_factor(self, name: str) -> float:
        """Return that of the settings for a learned threshold."""
        is_threshold = name.startswith("threshold.")
        return self.settings.threshold_lr_factor if is_threshold else 1.0

    def open(
        self,
        features: Tensor | None,
        has_image: Tensor,
        *,
        dtype: torch.dtype,
        dropout_seeds: Sequence[int] | None,
    ) -> Pass:
        """Turn the features of a batch's images into keys, values and slot vectors.

        Rows without an image do no image work: their visual tokens are zero, so their keys and
        values are the tables alone; without `text_only_fusion` their values are zero. A batch
        without any image therefore gives the projections no gradient at all, where the reference
        multiplies by zero and gets zero gradients (`optimization.imageless_steps`).

        Args:
            features: (B_img, 1 + G, C), see `Method.open`.
            has_image: (B,) bool.
            dtype: in which scores, their threshold and the fused states are computed.
            dropout_seeds: one for each row, in training.
        """
        rows = rows_with_image(features, has_image)
        shown = features.float() if features is not None and len(features) else None
        slots = None if shown is None else self._slots(shown)
        rule = self.settings.fusion_rule
        if rule is None:
            opened = Pass()
            opened.with_image = slots
            return opened
        keys, values = self._keys_and_values(shown, rows, batch_size=len(has_image))
        if not self.settings.text_only_fusion:
            values = values * has_image.to(values.device)[:, None, None]  # (B, N, d)
        values = drop_parts(
            values, dropout_seeds, dims=2, p=self.settings.token_dropout, purpose="image tokens"
        )
        penalty = self._kept_penalty()
        return FusingPass(
            keys.to(dtype),
            values.to(dtype),
            rule.make(self.settings, self._keeping(penalty), dropout_seeds),
            query_from=self.settings.query_from,
            add_to=self.settings.add_to,
            with_image=slots,
            penalty=penalty,
        )

    def _kept_penalty(self) -> KeptPenalty | None:
        settings = self.settings
        if not (self.training and settings.learns_threshold and settings.kept_weight):
            return None
        return KeptPenalty(target=settings.kept_target, weight=settings.kept_weight)

    def _keeping(self, penalty: KeptPenalty | None) -> Keeping:
        """Return what is kept of a layer's scores: in training, or in evaluation."""
        settings = self.settings
        if settings.threshold == "sparsemax" or settings.threshold == "entmax15":
            return SparseKeeping(settings.threshold)
        if self.threshold is None:
            in_evaluation = settings.gamma_in_evaluation
            gamma = settings.gamma if self.training else in_evaluation
            return FixedKeeping(gamma, in_evaluation, settings.drop_by)
        relaxed = None
        if self.training:
            temperature = settings.temperature_at(self.training_progress)
            relaxed = Relaxed(temperature, settings.threshold_relaxation)
        return LearnedKeeping(self.threshold, settings.drop_by, relaxed, penalty)

    def score_grids(self) -> ScoreGrids:
        """Return the pooled grids, and what is dropped in evaluation where that is fixed."""
        is_fixed = self.settings.threshold == "fixed"
        return ScoreGrids(
            self.settings.scales, self.settings.gamma_in_evaluation if is_fixed else None
        )

    def scores(self, opened: Pass, run: Callable[[Pass], object]) -> FusionScores | None:
        """Return which visual tokens each text token keeps in evaluation, in every layer."""
        if not self.settings.draws_scores or not isinstance(opened, FusingPass):
            return None
        found: list[Tensor] = []
        kept: list[Tensor] = []
        plain_rule, keeping = opened.rule, self._keeping(None)

        def record(
            queries: Tensor, keys: Tensor, values: Tensor, *, target: Tensor, layer: int
        ) -> Tensor:
            scores = visual_scores(queries, keys, phi=self.settings.phi)
            found.append(scores.float())
            kept.append(keeping.is_kept(scores, queries, layer))
            return plain_rule(queries, keys, values, target=target, layer=layer)

        run(opened.with_rule(record))
        return FusionScores(torch.stack(found), torch.stack(kept))  # (L, B, T, N)

    def visual_tokens(self, features: Tensor) -> Tensor:
        """Return V = beta * projected multiscale grid: (B_img, N, d) of (B_img, 1 + G, C)."""
        return self.settings.beta * self._project_grid(features, self.settings.scales)

    def _keys_and_values(
        self, features: Tensor | None, rows: Tensor, *, batch_size: int
    ) -> tuple[Tensor, Tensor]:
        assert self.key_table is not None
        assert self.value_table is not None
        rule = self.settings.fusion_rule
        phi = PHI[self.settings.phi if rule is not None and rule.maps_keys else "identity"]
        shape = (batch_size, *self.key_table.shape)
        if features is None:
            return phi(self.key_table).expand(shape), self.value_table.expand(shape)
        visual = self.visual_tokens(features)  # (B_img, N, d)
        visual = spread_rows(visual, rows, batch_size=batch_size)  # (B, N, d)
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
