"""Costs of the frozen models alone: weights, activations and operations, from sizes.

The formulas list what autograd keeps for the backward pass in the modules as they are: the decoder
layers of transformers' Llama with SDPA attention, open_clip's vision transformer. Frozen weights
keep no input, because they get no gradient.
"""

from collections.abc import Mapping

from ademvl.config.method import TowerStates
from ademvl.config.run import Quantization
from ademvl.planning.shapes import LlmShape, VisionShape
from ademvl.planning.sizes import MicroBatch, Numerics

QUANTIZED_BYTES: Mapping[Quantization, float] = {
    "int8": 1.0,
    "int4": 0.5 + 1 / 64 + 4 / (64 * 256),
}
"""Bytes of a weight in a layer's matrices: int8 with a scale a row (arXiv 2208.07339); 4 bits with
a scale of 8 bits for 64 weights, and one of 32 bits for 256 of these (arXiv 2305.14314, section 3).
"""
ATTENTION_BACKWARD = 2.5  # five products in place of two; Dao 2023, arXiv 2307.08691


def llm_weight_bytes(llm: LlmShape, numerics: Numerics) -> int:
    """Return what the frozen language model takes; embeddings and norms are never quantised."""
    whole = numerics.bytes
    if numerics.quantization == "none":
        return llm.parameters * whole
    in_layers = int(llm.layers_parameters * QUANTIZED_BYTES[numerics.quantization])
    return in_layers + (llm.parameters - llm.layers_parameters) * whole


def layer_bytes(llm: LlmShape, numerics: Numerics, batch: MicroBatch) -> int:
    """Return what one decoder layer keeps.

    Two RMSNorms keep their input in fp32; SDPA keeps q, k, v (k and v once for each query head in
    transformers' Llama, unless it groups them), its output and a sum for each head; the gated MLP
    keeps the gate before and after silu, and the other factor.
    """
    item = numerics.bytes
    norms = 2 * (4 * llm.width + 4)
    attention = item * (2 * llm.query_width + 2 * llm.kv_width) + 4 * llm.heads
    mlp = item * 3 * llm.ffn_width
    return batch.rows * batch.width * (norms + attention + mlp)


def logit_bytes(llm: LlmShape, numerics: Numerics, batch: MicroBatch) -> tuple[int, int]:
    """Return what logits take while the loss is computed, and what its backward pass adds."""
    logits = batch.scored * llm.vocabulary
    return logits * (numerics.bytes + 4), logits * 8


def layer_work_bytes(llm: LlmShape, numerics: Numerics, batch: MicroBatch) -> int:
    """Return the buffers of one layer's backward pass: three gradients as wide as its MLP.

    With quantised weights the largest matrix is there in full as well.
    """
    a_token = 3 * llm.ffn_width + 2 * llm.width
    whole_matrix = llm.width * llm.ffn_width * (numerics.quantization != "none")
    return numerics.bytes * (batch.rows * batch.width * a_token + whole_matrix)


def matrix_flops(llm: LlmShape, tokens: int) -> int:
    """Count the matrix products of one layer."""
    return 2 * tokens * llm.layer_matmul_parameters


def attention_flops(llm: LlmShape, rows: int, width: int, *, cached: int = 0) -> int:
    """Count scores of one layer and their product with the values.

    Args:
        llm: sizes.
        rows: B.
        width: T, of the queries.
        cached: tokens of each row that are in a key-value cache already.
    """
    return 4 * rows * width * (width + cached) * llm.query_width


def output_flops(llm: LlmShape, scored: int) -> int:
    """Count the output layer at the scored positions."""
    return 2 * scored * llm.width * llm.vocabulary


def tower_block_flops(vision: VisionShape, num_images: int) -> tuple[int, int]:
    """Count the matrix products and the attention of one block."""
    tokens = num_images * vision.tokens
    attention = 4 * tokens * vision.tokens * vision.width
    return 2 * tokens * vision.block_matmul_parameters, attention


def tower_forward_flops(vision: VisionShape, states: TowerStates, num_images: int) -> int:
    """Count the frozen tower's pass over images, as far as the last block that is read."""
    if vision.built_from is not None:
        from ademvl.planning.built_models import built_tower_flops

        return num_images * built_tower_flops(vision.built_from, states)
    matrices, attention = tower_block_flops(vision, num_images)
    patches = 2 * num_images * vision.grid_tokens * 3 * vision.patch_size**2 * vision.width
    num_blocks = 1 + max(block % vision.blocks for block in states.blocks)
    return patches + num_blocks * (matrices + attention)


def feature_shape(vision: VisionShape, states: TowerStates) -> tuple[int, int]:
    """Return N and C of the features that are read of one image."""
    tokens = {"all": vision.tokens, "cls": 1, "grid": vision.grid_tokens}[states.tokens]
    width = vision.output_width if states.projected else vision.width
    return len(states.blocks) * tokens, width


def image_bytes(vision: VisionShape, states: TowerStates, *, online: bool) -> int:
    """Return what an image takes: pixels in fp32, or features in fp16."""
    if online:
        return 4 * 3 * vision.image_size**2
    tokens, width = feature_shape(vision, states)
    return 2 * tokens * width
