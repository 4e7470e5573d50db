"""Floating-point operations of training and evaluation, from sizes alone.

A multiplication with its addition counts as two. Counted are matrix products, convolutions and
attention, as torch's FlopCounterMode counts them: attention over all pairs of tokens, though a
causal kernel skips half of them, and its backward pass with the recomputation of scores (2.5 times
the forward pass). Elementwise work is left out. `benchmarks/plan_predictions.py` compares with
FlopCounterMode, within 5 %.

Frozen weights get no gradient, so their backward pass costs as much as their forward pass, not
twice; arXiv 2302.13971 and others count three forward passes for full training.
"""

from dataclasses import dataclass

from ademvl.planning.memory import MicroBatch, ModelSizes, Numerics

_ATTENTION_BACKWARD = 2.5  # five products in place of two; Dao 2023, arXiv 2307.08691


@dataclass(frozen=True, kw_only=True)
class StepFlops:
    """Operations of one pass of a micro-batch.

    Attributes:
        forward: language model with fusion, output layer and projections.
        backward: through the frozen language model to what is trained.
        recomputed: forward passes of layers again, with checkpointing.
        tower: forward and backward pass of the tower, online.
    """

    forward: int
    backward: int
    recomputed: int
    tower: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.forward + self.backward + self.recomputed + self.tower


def training_flops(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> StepFlops:
    """Count one forward and backward pass of a micro-batch."""
    llm = sizes.llm
    layers = llm.layers * layer_forward_flops(sizes, batch)
    output = 2 * batch.scored * llm.width * llm.vocabulary
    projections = _projection_flops(sizes, batch)
    tower = tower_flops(sizes, batch.image_rows, training=True) if sizes.online else 0
    return StepFlops(
        forward=layers + output + projections,
        backward=_layers_backward(sizes, batch) + output + _projection_backward(sizes, batch),
        recomputed=layers if numerics.checkpointing else 0,
        tower=tower,
    )


def layer_forward_flops(sizes: ModelSizes, batch: MicroBatch, *, cached: int = 0) -> int:
    """Count the forward pass of one decoder layer with its fusion.

    Args:
        sizes: of the models.
        batch: rows and width T.
        cached: tokens of each row that are in a key-value cache already.
    """
    tokens = batch.rows * batch.width
    matrices = 2 * tokens * sizes.llm.layer_matmul_parameters
    return matrices + _attention(sizes, batch, cached) + _fusion(sizes, batch)


def _attention(sizes: ModelSizes, batch: MicroBatch, cached: int = 0) -> int:
    pairs = batch.rows * batch.width * (batch.width + cached)
    return 4 * pairs * sizes.llm.query_width


def _fusion(sizes: ModelSizes, batch: MicroBatch) -> int:
    """Count scores and their product with the values: two products of T x d x N."""
    if sizes.method.fusion == "none":
        return 0
    tokens = batch.rows * batch.width
    return 4 * tokens * sizes.method.num_visual_tokens * sizes.llm.width


def _layers_backward(sizes: ModelSizes, batch: MicroBatch) -> int:
    """Count the backward pass of all layers.

    Inputs get gradients, weights none. Where no row brings a vector of its image into the text,
    the first layer's input needs no gradient: only its fusion's keys and values do.
    """
    llm = sizes.llm
    fusion = 2 * _fusion(sizes, batch)
    matrices = 2 * batch.rows * batch.width * llm.layer_matmul_parameters
    a_layer = matrices + int(_ATTENTION_BACKWARD * _attention(sizes, batch)) + fusion
    if sizes.text_is_trained(batch):
        return llm.layers * a_layer
    if sizes.method.fusion == "none":
        return 0
    first = fusion * 3 // 4 if sizes.method.query_from == "mlp_in" else fusion
    return (llm.layers - 1) * a_layer + first


def _projection_flops(sizes: ModelSizes, batch: MicroBatch) -> int:
    """Count the maps from the tower's width to the language model's, of images only."""
    method, hidden = sizes.method, sizes.method.projection_width
    tokens = method.num_visual_tokens if method.fusion != "none" else 0
    tokens += method.text_places.with_image
    if method.pool_order == "project_then_pool":
        grids = (method.fusion != "none") + (method.visual_tokens > 0)
        tokens = grids * sizes.vision.grid_tokens + method.cls
    return 2 * batch.image_rows * tokens * hidden * (sizes.vision.width + sizes.llm.width)


def _projection_backward(sizes: ModelSizes, batch: MicroBatch) -> int:
    """Count gradients of both matrices and of the second's input; online of the first's too."""
    forward = _projection_flops(sizes, batch)
    into_features = sizes.vision.width / (sizes.vision.width + sizes.llm.width)
    return 2 * forward - (0 if sizes.online else int(forward * into_features))


def tower_flops(sizes: ModelSizes, num_images: int, *, training: bool) -> int:
    """Count the tower's pass over images; its last block never runs.

    Args:
        sizes: of the models.
        num_images: that pass through it.
        training: with the backward pass to its adapters; the first block is reached by its adapter
            alone, so only that gets gradients.
    """
    vision = sizes.vision
    tokens = num_images * vision.tokens
    attention = 4 * tokens * vision.tokens * vision.width
    block = 2 * tokens * vision.block_matmul_parameters + attention
    blocks = vision.blocks - 1
    patches = 2 * num_images * vision.grid_tokens * 3 * vision.patch_size**2 * vision.width
    half_adapter = 2 * tokens * vision.width * sizes.method.clip_adapter.dim if sizes.online else 0
    forward = patches + blocks * (block + 2 * half_adapter)
    if not training:
        return forward
    a_block = block + int((_ATTENTION_BACKWARD - 1) * attention) + 4 * half_adapter
    return forward + (blocks - 1) * a_block + 3 * half_adapter


def evaluation_flops(sizes: ModelSizes, batch: MicroBatch, *, new_tokens: int) -> int:
    """Count answering a batch: the prompt, then one token after another with a key-value cache.

    Args:
        sizes: of the models.
        batch: prompts.
        new_tokens: generated for each row; the last one is not fed back.
    """
    llm = sizes.llm
    step = MicroBatch(rows=batch.rows, image_rows=0, width=1, scored=batch.rows)
    generated = sum(
        layer_forward_flops(sizes, step, cached=batch.width + done)
        for done in range(new_tokens - 1)
    )
    prompt = layer_forward_flops(sizes, batch)
    output = 2 * new_tokens * batch.rows * llm.width * llm.vocabulary
    tower = tower_flops(sizes, batch.image_rows, training=False) if sizes.online else 0
    return llm.layers * (prompt + generated) + output + _projection_flops(sizes, batch) + tower
