"""Memory of one training process, by part, from sizes alone.

The formulas list what autograd keeps for the backward pass in the modules as they are: the decoder
layers of transformers' Llama with SDPA attention, open_clip's vision transformer, this package's
fusion. Frozen weights keep no input, because they get no gradient. `benchmarks/plan_predictions.py`
compares them with what tensors really take: on the CPU, in fp32 and bf16 and with quantised
weights, they agree within 15 %. What CUDA's own libraries hold is not checked there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ademvl.config.run import Precision, Quantization
from ademvl.machine.devices import DeviceType
from ademvl.methods.adem.settings import AdemSettings
from ademvl.planning.shapes import LlmShape, VisionShape

BYTES: Mapping[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2}
QUANTIZED_BYTES: Mapping[Quantization, float] = {
    "int8": 1.0,
    "int4": 0.5 + 1 / 64 + 4 / (64 * 256),
}
"""Bytes of a weight in a layer's matrices: int8 with a scale a row (arXiv 2208.07339); 4 bits with
a scale of 8 bits for 64 weights, and one of 32 bits for 256 of these (arXiv 2305.14314, section 3).
"""
CUDA_CONTEXT_BYTES = 500 << 20
"""Context, kernels and cuBLAS workspaces of one process; 0.3 to 0.6 GiB on cards since Volta."""
PROCESS_BYTES = 900 << 20
"""Interpreter, torch, transformers and open_clip of a process on the CPU, and a small data set's
rows: resident memory before the first step, with torch 2.15 (benchmarks/plan_predictions.py)."""
KEPT_PIXELS_BYTES = 512 << 20
"""Decoded images that training keeps at most (`vision.features.source.MAX_PIXEL_BYTES`)."""
FRAGMENTATION = 0.08
"""Part of what comes and goes with a batch that torch's allocator holds without using it: an
assumption, as it depends on the order of sizes."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The largest batch that goes through the models at once.

    Attributes:
        rows: B.
        image_rows: rows with an image.
        width: T, tokens of the longest row.
        scored: M, positions that go through the output layer.
    """

    rows: int
    image_rows: int
    width: int
    scored: int


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """How numbers are held.

    Attributes:
        precision: of the frozen language model, and of computation.
        quantization: of the matrices in its layers.
        checkpointing: a layer's activations are computed again in the backward pass.
        accumulates: gradients of several passes are added up.
    """

    precision: Precision = "fp32"
    quantization: Quantization = "none"
    checkpointing: bool = False
    accumulates: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of an activation."""
        return BYTES[self.precision]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one training process at its peak, by part.

    Attributes:
        llm_weights: frozen language model.
        tower_weights: frozen tower, in fp32, with the half copies that autocast keeps.
        adapter: trained parameters, in fp32.
        gradients: of the trained parameters, and their sum over passes in fp64.
        optimizer: two moments of AdamW for each.
        llm_activations: what the decoder layers keep for the backward pass.
        tower_activations: what the tower keeps for it.
        visual_prompt: keys, values and their gradients, and the images or features themselves.
        logits: predictions at scored positions and their gradient.
        working: buffers that live for one operation.
        kept_pixels: decoded images that are kept for the next epoch, on the CPU.
        overhead: context and libraries, and what the allocator cannot use.
    """

    llm_weights: int
    tower_weights: int
    adapter: int
    gradients: int
    optimizer: int
    llm_activations: int
    tower_activations: int
    visual_prompt: int
    logits: int
    working: int
    kept_pixels: int
    overhead: int

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(getattr(self, part.name) for part in fields(self))

    @property
    def tensors(self) -> int:
        """All that is in tensors of a step: the total without overhead and kept images."""
        return self.total - self.overhead - self.kept_pixels


@dataclass(frozen=True)
class ModelSizes:
    """The models that are in memory.

    Attributes:
        llm, vision: sizes.
        method: settings of the method.
        trained: number of trained parameters.
        online: the tower is in memory and part of every step.
    """

    llm: LlmShape
    vision: VisionShape
    method: AdemSettings
    trained: int
    online: bool

    def text_is_trained(self, batch: MicroBatch) -> bool:
        """Whether the first layer's input gets a gradient, for the image's vectors in the text.

        Without any, only the fusion of the first layer takes part in the backward pass.
        """
        return batch.image_rows > 0 and self.method.text_places.with_image > 0


def training_memory(
    sizes: ModelSizes,
    numerics: Numerics,
    batch: MicroBatch,
    *,
    device: DeviceType,
    kept_images: int = 0,
) -> Memory:
    """Predict the peak of one process, which lies at the start of the backward pass.

    Args:
        sizes: of the models.
        numerics: how numbers are held.
        batch: the largest that goes through them at once.
        device: of the process.
        kept_images: decoded images that are kept if there is room, in main memory.
    """
    layers = llm_activation_bytes(sizes, numerics, batch)
    tower = tower_activation_bytes(sizes, numerics, batch, device=device)
    prompt = _visual_prompt_bytes(sizes, numerics, batch)
    logits, logit_work = _logit_bytes(sizes.llm, numerics, batch)
    working = max(logit_work, _layer_work_bytes(sizes, numerics, batch))
    comes_and_goes = layers + tower + prompt + logits + working
    allowance = CUDA_CONTEXT_BYTES if device == "cuda" else PROCESS_BYTES
    return Memory(
        llm_weights=llm_weight_bytes(sizes.llm, numerics),
        tower_weights=_tower_weight_bytes(sizes, numerics, batch) if sizes.online else 0,
        adapter=4 * sizes.trained,
        gradients=(12 if numerics.accumulates else 4) * sizes.trained,
        optimizer=8 * sizes.trained,
        llm_activations=layers,
        tower_activations=tower,
        visual_prompt=prompt,
        logits=logits,
        working=working,
        kept_pixels=_kept_pixels(sizes, kept_images) if device == "cpu" else 0,
        overhead=allowance + int(FRAGMENTATION * comes_and_goes),
    )


def _kept_pixels(sizes: ModelSizes, kept_images: int) -> int:
    an_image = 3 * sizes.vision.image_size**2  # uint8: normalised only when a batch asks
    return min(KEPT_PIXELS_BYTES, kept_images * an_image) if sizes.online else 0


def evaluation_memory(
    sizes: ModelSizes,
    numerics: Numerics,
    batch: MicroBatch,
    *,
    new_tokens: int,
    device: DeviceType,
) -> int:
    """Predict the peak of one process that answers prompts: no activations are kept.

    There are the weights, one layer's states, keys and values of the images, logits, and where more
    than one token is generated the key-value cache of all tokens.
    """
    llm, item = sizes.llm, numerics.bytes
    tokens = batch.rows * batch.width
    a_layer = item * tokens * (3 * llm.ffn_width + 4 * llm.width) + 8 * tokens * llm.width
    cached = 2 * item * llm.layers * llm.kv_width * batch.rows * (batch.width + new_tokens)
    tower = 0
    if sizes.online:
        middle = 3 * sizes.vision.mlp_width + 8 * sizes.vision.width
        tower = item * batch.image_rows * sizes.vision.tokens * middle
    comes_and_goes = (
        max(a_layer, tower)
        + (cached if new_tokens > 1 else 0)
        + _visual_prompt_bytes(sizes, numerics, batch)
        + batch.rows * llm.vocabulary * (item + 4)
    )
    allowance = CUDA_CONTEXT_BYTES if device == "cuda" else PROCESS_BYTES
    weights = llm_weight_bytes(llm, numerics) + 4 * sizes.vision.parameters * sizes.online
    adapter = 4 * sizes.trained
    return weights + adapter + allowance + int((1 + FRAGMENTATION) * comes_and_goes)


def llm_weight_bytes(llm: LlmShape, numerics: Numerics) -> int:
    """Return what the frozen language model takes; embeddings and norms are never quantised."""
    whole = numerics.bytes
    if numerics.quantization == "none":
        return llm.parameters * whole
    in_layers = int(llm.layers_parameters * QUANTIZED_BYTES[numerics.quantization])
    return in_layers + (llm.parameters - llm.layers_parameters) * whole


def llm_activation_bytes(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> int:
    """Return what the decoder layers keep for the backward pass.

    With checkpointing: the input of each layer, and all that one layer keeps.
    """
    per_layer = _layer_bytes(sizes, numerics, batch)
    final_norm = 4 * batch.rows * batch.width * sizes.llm.width
    if not numerics.checkpointing:
        first = per_layer if sizes.text_is_trained(batch) else _fusion_bytes(sizes, numerics, batch)
        return first + (sizes.llm.layers - 1) * per_layer + final_norm
    states = numerics.bytes * batch.rows * batch.width * sizes.llm.width
    return sizes.llm.layers * states + per_layer + final_norm


def _layer_bytes(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> int:
    """Return what one decoder layer keeps.

    Two RMSNorms keep their input in fp32; SDPA keeps q, k, v (k and v once for each query head in
    transformers' Llama, unless it groups them), its output and a sum for each head; the gated MLP
    keeps the gate before and after silu, and the other factor. The fusion keeps the queries before
    and after phi, the scores and which of them it drops.
    """
    llm, item = sizes.llm, numerics.bytes
    norms = 2 * (4 * llm.width + 4)
    attention = item * (2 * llm.query_width + 2 * llm.kv_width) + 4 * llm.heads
    mlp = item * 3 * llm.ffn_width
    a_token = norms + attention + mlp
    return batch.rows * batch.width * a_token + _fusion_bytes(sizes, numerics, batch)


def _fusion_bytes(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> int:
    method, item, num_visual = sizes.method, numerics.bytes, sizes.method.num_visual_tokens
    if method.fusion == "none":
        return 0
    tokens = batch.rows * batch.width
    if method.fusion == "memvp":  # silu's input and output, and what dropout keeps
        return item * tokens * (sizes.llm.width + 3 * num_visual)
    queries = 1 if method.phi == "identity" else 2
    mask = num_visual * (int(method.gamma * num_visual) > 0)
    return tokens * (item * (queries * sizes.llm.width + num_visual) + mask)


def tower_activation_bytes(
    sizes: ModelSizes, numerics: Numerics, batch: MicroBatch, *, device: DeviceType
) -> int:
    """Return what the tower keeps: nothing with cached features.

    The first block gets no gradient but for its adapter; the last one never runs. Each block in
    between keeps the inputs of two LayerNorms (in fp32 on a GPU, whose autocast casts them), q, k,
    v and output of the attention, the middle of the MLP (twice with QuickGELU), and the adapter's
    input and bottleneck.
    """
    if not sizes.online or not batch.image_rows:
        return 0
    vision, item = sizes.vision, numerics.bytes
    norm = 4 if device == "cuda" else item
    middle = (2 if vision.has_quick_gelu else 1) * vision.mlp_width
    block = vision.width * (2 * norm + 4 * item) + item * middle
    adapter = item * (vision.width + 3 * sizes.method.clip_adapter.dim)
    blocks_run = vision.blocks - 1
    a_token = (blocks_run - 1) * block + blocks_run * adapter + norm * vision.width
    return batch.image_rows * vision.tokens * a_token


def _tower_weight_bytes(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> int:
    """Return the tower's weights in fp32, and the half copies that its linear layers keep."""
    weights = 4 * sizes.vision.parameters
    if numerics.precision == "fp32" or not batch.image_rows:
        return weights
    return weights + 2 * (sizes.vision.blocks - 2) * sizes.vision.block_matmul_parameters


def _visual_prompt_bytes(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> int:
    """Return keys and values (and what phi keeps in fp32), their gradients, pooled features."""
    vision, method, item = sizes.vision, sizes.method, numerics.bytes
    rows_kept = batch.rows if batch.image_rows else 1  # without images, the tables serve all rows
    prompt = 0
    if method.fusion != "none":
        kept, gradients = rows_kept * (4 + 2 * item), batch.rows * 2 * item
        prompt = method.num_visual_tokens * sizes.llm.width * (kept + gradients)
    pooled = item * vision.width + 4 * method.projection_width
    num_projected = method.num_visual_tokens + method.text_places.with_image
    pixels = 4 * 3 * vision.image_size**2
    images = pixels if sizes.online else 2 * vision.tokens * vision.width
    return prompt + batch.image_rows * (num_projected * pooled + images)


def _logit_bytes(llm: LlmShape, numerics: Numerics, batch: MicroBatch) -> tuple[int, int]:
    """Return what logits take while the loss is computed, and what its backward pass adds."""
    logits = batch.scored * llm.vocabulary
    return logits * (numerics.bytes + 4), logits * 8


def _layer_work_bytes(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> int:
    """Return the buffers of one layer's backward pass: three gradients as wide as its MLP.

    With quantised weights the largest matrix is there in full as well.
    """
    llm = sizes.llm
    a_token = 3 * llm.ffn_width + 2 * llm.width
    whole_matrix = llm.width * llm.ffn_width * (numerics.quantization != "none")
    return numerics.bytes * (batch.rows * batch.width * a_token + whole_matrix)
