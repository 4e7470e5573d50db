"""ADEM-VL's costs by formula, in no time: the planner's knowledge of this method, all of it here.

Other methods are measured (`measured.py`), which takes seconds and torch. Tests hold the formulas
against real modules and steps, for the settings of every study; `benchmarks/plan_predictions.py`
compares memory and operations at more sizes.
"""

from dataclasses import dataclass

from ademvl.config.method import MethodSettings
from ademvl.machine.devices import DeviceType
from ademvl.methods.adem.settings import AdemSettings
from ademvl.planning.frozen_costs import (
    ATTENTION_BACKWARD,
    attention_flops,
    image_bytes,
    layer_bytes,
    matrix_flops,
    tower_block_flops,
    tower_forward_flops,
)
from ademvl.planning.method_costs import KeptBytes, MethodCosts
from ademvl.planning.shapes import LlmShape, VisionShape
from ademvl.planning.sizes import MicroBatch, Numerics


def formula_of(
    settings: MethodSettings, llm: LlmShape, vision: VisionShape, *, online: bool
) -> MethodCosts | None:
    """Return the costs of a method by formula; None of one that has none, or on other models.

    ADEM-VL has none with settings beyond the paper, such as a learned threshold.

    Args:
        llm: sizes of the language model.
        vision: sizes of the tower.
        online: the tower takes part in every step.
    """
    if not isinstance(settings, AdemSettings) or settings.goes_beyond_paper:
        return None
    if llm.config or (online and vision.built_from is not None):
        return None
    return AdemFormula(settings, llm, vision, online)


@dataclass(frozen=True)
class AdemFormula:
    """Costs of ADEM-VL.

    Attributes:
        settings: of the method.
        llm, vision: sizes of the models.
        online: with bottleneck adapters inside the tower, which takes part in every step.
    """

    settings: AdemSettings
    llm: LlmShape
    vision: VisionShape
    online: bool

    def trained(self) -> dict[str, int]:
        """Count the trained parameters of each part (paper: arXiv 2410.17779; `AdemMethod`)."""
        settings, vision, llm_width = self.settings, self.vision, self.llm.width
        width, hidden = vision.width, settings.projection_width
        projection = width * hidden + hidden + hidden * llm_width + llm_width
        parts: dict[str, int] = {}
        if self._has_fusion:
            table = settings.num_visual_tokens * llm_width
            parts |= {"key_table": table, "value_table": table}
        if self._has_fusion or settings.visual_tokens:
            parts["grid_projection"] = projection
        if settings.cls:
            parts["cls_projection"] = projection
        if self.online:
            adapted = vision.blocks - (0 if settings.clip_adapter.last_block else 1)
            parts["clip_adapters"] = adapted * 2 * width * settings.clip_adapter.dim
        return parts

    @property
    def _has_fusion(self) -> bool:
        return self.settings.fusion_rule is not None

    def layers_forward(self, batch: MicroBatch) -> int:
        """Count the forward pass of all decoder layers with their fusion."""
        return self.llm.layers * self._layer_forward(batch.rows, batch.width)

    def layers_forward_cached(self, rows: int, image_rows: int, *, cached: int) -> int:
        """Count one token more of each row."""
        return self.llm.layers * self._layer_forward(rows, 1, cached=cached)

    def _layer_forward(self, rows: int, width: int, *, cached: int = 0) -> int:
        tokens = rows * width
        attention = attention_flops(self.llm, rows, width, cached=cached)
        return matrix_flops(self.llm, tokens) + attention + self._fusion(tokens)

    def _fusion(self, tokens: int) -> int:
        """Count scores and their product with the values: two products of T x d x N."""
        if not self._has_fusion:
            return 0
        return 4 * tokens * self.settings.num_visual_tokens * self.llm.width

    def images_forward(self, batch: MicroBatch) -> int:
        """Count the maps from the tower's width to the language model's, of images only."""
        method, hidden = self.settings, self.settings.projection_width
        tokens = method.num_visual_tokens if self._has_fusion else 0
        tokens += method.text_places.with_image
        if method.pool_order == "project_then_pool":
            grids = self._has_fusion + (method.visual_tokens > 0)
            tokens = grids * self.vision.grid_tokens + method.cls
        return 2 * batch.image_rows * tokens * hidden * (self.vision.width + self.llm.width)

    def backward(self, batch: MicroBatch, *, checkpointing: bool) -> int:
        """Count the backward pass of all layers and of the projections.

        Inputs get gradients, weights none. Where no row brings a vector of its image into the text,
        the first layer's input needs no gradient: only its fusion's keys and values do. That it has
        one with checkpointing is left out.
        """
        return self._layers_backward(batch) + self._projection_backward(batch)

    def _layers_backward(self, batch: MicroBatch) -> int:
        tokens = batch.rows * batch.width
        fusion = 2 * self._fusion(tokens)
        attention = attention_flops(self.llm, batch.rows, batch.width)
        a_layer = matrix_flops(self.llm, tokens) + int(ATTENTION_BACKWARD * attention) + fusion
        if self._text_is_trained(batch):
            return self.llm.layers * a_layer
        if not self._has_fusion:
            return 0
        first = fusion * 3 // 4 if self.settings.query_from == "mlp_in" else fusion
        return (self.llm.layers - 1) * a_layer + first

    def _text_is_trained(self, batch: MicroBatch) -> bool:
        return batch.image_rows > 0 and self.settings.text_places.with_image > 0

    def _projection_backward(self, batch: MicroBatch) -> int:
        """Count gradients of both matrices and of the second's input; online of the first's too."""
        forward = self.images_forward(batch)
        into_features = self.vision.width / (self.vision.width + self.llm.width)
        return 2 * forward - (0 if self.online else int(forward * into_features))

    def tower(self, num_images: int, *, training: bool) -> int:
        """Count the tower's pass with its adapters; its last block never runs.

        The first block is reached by its adapter alone, so only that gets gradients.
        """
        vision = self.vision
        forward = tower_forward_flops(vision, self.settings.tower_states, num_images)
        if not self.online:
            return forward
        blocks = vision.blocks - 1
        tokens = num_images * vision.tokens
        half_adapter = 2 * tokens * vision.width * self.settings.clip_adapter.dim
        forward += blocks * 2 * half_adapter
        if not training:
            return forward
        matrices, attention = tower_block_flops(vision, num_images)
        a_block = matrices + attention + int((ATTENTION_BACKWARD - 1) * attention)
        return forward + (blocks - 1) * (a_block + 4 * half_adapter) + 3 * half_adapter

    def kept(self, numerics: Numerics, batch: MicroBatch, *, device: DeviceType) -> KeptBytes:
        """Return what is kept without checkpointing."""
        fusion = self._fusion_bytes(numerics, batch)
        a_layer = layer_bytes(self.llm, numerics, batch) + fusion
        first = a_layer if self._text_is_trained(batch) else fusion
        final_norm = 4 * batch.rows * batch.width * self.llm.width
        return KeptBytes(
            layers=first + (self.llm.layers - 1) * a_layer + final_norm,
            one_layer=a_layer,
            tower=self._tower_bytes(numerics, batch, device),
            tower_copies=self._tower_copies(numerics, batch),
            images=self._images_bytes(numerics, batch),
        )

    def _fusion_bytes(self, numerics: Numerics, batch: MicroBatch) -> int:
        """Return the queries before and after phi, the scores and which of them it drops."""
        method, num_visual = self.settings, self.settings.num_visual_tokens
        rule = method.fusion_rule
        if rule is None:
            return 0
        queries = 2 if rule.maps_keys and method.phi != "identity" else 1
        drops = rule.has_scores and int(method.gamma * num_visual) > 0
        numbers = queries * self.llm.width + rule.kept_numbers * num_visual
        return batch.rows * batch.width * (numerics.bytes * numbers + num_visual * drops)

    def _tower_bytes(self, numerics: Numerics, batch: MicroBatch, device: DeviceType) -> int:
        """Return what the tower keeps: nothing with cached features.

        The first block gets no gradient but for its adapter; the last one never runs. Each block in
        between keeps the inputs of two LayerNorms (in fp32 on a GPU, whose autocast casts them), q,
        k, v and output of the attention, the middle of the MLP (twice with QuickGELU), and the
        adapter's input and bottleneck.
        """
        if not self.online or not batch.image_rows:
            return 0
        vision, item = self.vision, numerics.bytes
        norm = 4 if device == "cuda" else item
        middle = (2 if vision.has_quick_gelu else 1) * vision.mlp_width
        block = vision.width * (2 * norm + 4 * item) + item * middle
        adapter = item * (vision.width + 3 * self.settings.clip_adapter.dim)
        blocks_run = vision.blocks - 1
        a_token = (blocks_run - 1) * block + blocks_run * adapter + norm * vision.width
        return batch.image_rows * vision.tokens * a_token

    def _tower_copies(self, numerics: Numerics, batch: MicroBatch) -> int:
        """Return the half copies of the tower's weights that its linear layers keep."""
        if not self.online or numerics.precision == "fp32" or not batch.image_rows:
            return 0
        return 2 * (self.vision.blocks - 2) * self.vision.block_matmul_parameters

    def _images_bytes(self, numerics: Numerics, batch: MicroBatch) -> int:
        """Return keys and values (and what phi keeps in fp32), their gradients, pooled features."""
        vision, method, item = self.vision, self.settings, numerics.bytes
        rows_kept = batch.rows if batch.image_rows else 1  # without, the tables serve all rows
        prompt = 0
        if self._has_fusion:
            kept, gradients = rows_kept * (4 + 2 * item), batch.rows * 2 * item
            prompt = method.num_visual_tokens * self.llm.width * (kept + gradients)
        pooled = item * vision.width + 4 * method.projection_width
        num_projected = method.num_visual_tokens + method.text_places.with_image
        images = image_bytes(vision, method.tower_states, online=self.online)
        return prompt + batch.image_rows * (num_projected * pooled + images)
