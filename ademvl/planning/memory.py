"""Memory of one training process, by part, from sizes alone.

What the method keeps for the backward pass comes from `costs.py`: by formula or by measurement.
`benchmarks/plan_predictions.py` compares with what tensors really take: on the CPU, in fp32 and
bf16 and with quantised weights, they agree within 15 %. What CUDA's own libraries hold is not
checked there.
"""

from dataclasses import dataclass, fields

from ademvl.machine.devices import DeviceType
from ademvl.planning.costs import costs_of
from ademvl.planning.frozen_costs import layer_work_bytes, llm_weight_bytes, logit_bytes
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics

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
class Memory:
    """Bytes of one training process at its peak, by part.

    Attributes:
        llm_weights: frozen language model.
        tower_weights: frozen tower, in fp32, with the half copies that autocast keeps.
        adapter: trained parameters, in fp32.
        gradients: of the trained parameters, and their sum over passes in fp64.
        optimizer: two moments of AdamW for each, and its average where there is one.
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


NO_MEMORY = Memory(**dict.fromkeys((part.name for part in fields(Memory)), 0))
"""Of a training that does not take place."""


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
        numerics: how numbers are held.
        batch: the largest that goes through them at once.
        device: of the process.
        kept_images: decoded images that are kept if there is room, in main memory.
    """
    kept = costs_of(sizes).kept(numerics, batch, device=device)
    layers = kept.layers
    if numerics.checkpointing:
        layers = _checkpointed_bytes(sizes, numerics, batch) + kept.one_layer
    logits, logit_work = logit_bytes(sizes.llm, numerics, batch)
    working = max(logit_work, layer_work_bytes(sizes.llm, numerics, batch))
    comes_and_goes = layers + kept.tower + kept.images + logits + working
    allowance = CUDA_CONTEXT_BYTES if device == "cuda" else PROCESS_BYTES
    return Memory(
        llm_weights=llm_weight_bytes(sizes.llm, numerics),
        tower_weights=4 * sizes.vision.parameters * sizes.online + kept.tower_copies,
        adapter=4 * sizes.trained,
        gradients=(12 if numerics.accumulates else 4) * sizes.trained,
        optimizer=(12 if numerics.averages else 8) * sizes.trained,
        llm_activations=layers,
        tower_activations=kept.tower,
        visual_prompt=kept.images,
        logits=logits,
        working=working,
        kept_pixels=_kept_pixels(sizes, kept_images) if device == "cpu" else 0,
        overhead=allowance + int(FRAGMENTATION * comes_and_goes),
    )


def _checkpointed_bytes(sizes: ModelSizes, numerics: Numerics, batch: MicroBatch) -> int:
    """Return the input of each layer, and that of the final norm in fp32."""
    width = batch.width + sizes.method.text_places.before_begin
    states = batch.rows * width * sizes.llm.width
    return (sizes.llm.layers * numerics.bytes + 4) * states


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
        + costs_of(sizes).kept(numerics, batch, device=device).images
        + batch.rows * llm.vocabulary * (item + 4)
    )
    allowance = CUDA_CONTEXT_BYTES if device == "cuda" else PROCESS_BYTES
    weights = llm_weight_bytes(llm, numerics) + 4 * sizes.vision.parameters * sizes.online
    adapter = 4 * sizes.trained
    return weights + adapter + allowance + int((1 + FRAGMENTATION) * comes_and_goes)
