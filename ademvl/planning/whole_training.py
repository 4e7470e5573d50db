"""Costs of MM-CoT, whose two stages train all of T5: from its configuration and assumed lengths.

Operations are six a parameter and token in training, two in evaluation, embeddings at the output
alone; what a layer keeps is counted from its matrices' inputs and its attention. Nothing of it was
compared with a measurement.
"""

import dataclasses
from dataclasses import dataclass

from ademvl.config.run import RunSettings
from ademvl.machine.devices import DeviceType
from ademvl.planning.assumed import length_table
from ademvl.planning.memory import (
    CUDA_CONTEXT_BYTES,
    FRAGMENTATION,
    NO_MEMORY,
    PROCESS_BYTES,
    Memory,
)
from ademvl.planning.schedule import RunFlops
from ademvl.planning.shapes import vision_shape
from ademvl.planning.sizes import MicroBatch, Numerics
from ademvl.planning.systems import config_of
from ademvl.planning.workload import Split, Workload
from ademvl.systems.mm_cot.rows import settings_of

_ANSWER_TOKENS = 8  # "The answer is (A)." and the end token
_FP32 = 4


@dataclass(frozen=True, kw_only=True)
class WholeSize:
    """Sizes of one stage.

    Attributes:
        trained: all its parameters, by part.
        embeddings: those of T5's words, which take no operations but at the output.
        width, ffn_width, heads, layers: of T5; encoder and decoder have so many layers each.
        vocabulary: of T5.
    """

    trained: dict[str, int]
    embeddings: int
    width: int
    ffn_width: int
    heads: int
    layers: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """All of them."""
        return sum(self.trained.values())


def whole_size(run: RunSettings) -> WholeSize:
    """Count what a stage trains, built without memory.

    Raises:
        SettingsError: sizes of T5 or of the tower are not known.
    """
    import torch
    from transformers import T5ForConditionalGeneration

    from ademvl.systems.mm_cot.fusion import FusedT5

    config = config_of(run)
    with torch.device("meta"):
        t5 = T5ForConditionalGeneration(config)
        model = FusedT5(t5, image_width=vision_shape(run.backbones).width)
    parts = {"t5": t5, "fusion": model.fusion}
    return WholeSize(
        trained={
            name: sum(parameter.numel() for parameter in part.parameters())
            for name, part in parts.items()
        },
        embeddings=config.vocab_size * config.d_model,
        width=config.d_model,
        ffn_width=config.d_ff,
        heads=config.num_heads,
        layers=config.num_layers,
        vocabulary=config.vocab_size,
    )


def target_tokens(run: RunSettings) -> tuple[int, int]:
    """Return how many tokens the targets of both stages have, on average or as they are padded."""
    settings = settings_of(run)
    longest = settings.max_rationale_tokens, settings.max_answer_tokens
    if settings.score_padding:
        return longest
    lengths = length_table()["scienceqa"]
    held = settings.rationale_format.partition("-")[2]
    written = sum(lengths["explanation"][part] for part in held) / lengths["per_token"]
    return min(round(written), longest[0]), min(_ANSWER_TOKENS, longest[1])


def whole_flops(run: RunSettings, size: WholeSize, workload: Workload, *, trains: bool) -> RunFlops:
    """Count the operations of both trainings, and of an evaluation through both stages."""
    rationale, answer = target_tokens(run)
    steps = run.optimization.total_steps(workload.training.items) if trains else 0
    forward = sum(
        _forward(size, _mean_width(workload.training) + shown, target)
        for shown, target in ((0, rationale), (rationale, answer))
    )
    asked = sum(
        _forward(size, _mean_width(workload.evaluation) + shown, target)
        for shown, target in ((0, rationale), (rationale, answer))
    )
    return RunFlops(
        training_per_item=3 * forward,
        training=3 * forward * steps * run.optimization.effective_batch_size,
        evaluation=asked * workload.evaluation.items,
        optimizer_steps=2 * steps,
        busiest=1.0,
    )


def _mean_width(split: Split) -> float:
    return sum(row.width for row in split.rows) / len(split.rows) if split.rows else 0.0


def _forward(size: WholeSize, source: float, target: float) -> float:
    """Count a pass: encoder and fusion over the source, the decoder over the target."""
    whole = size.parameters - size.embeddings
    encoder = size.layers * (4 * size.width**2 + 2 * size.width * size.ffn_width)
    decoder = whole - encoder - size.trained["fusion"]
    output = size.width * size.vocabulary
    return 2 * (source * (encoder + size.trained["fusion"]) + target * (decoder + output))


def largest_pass(run: RunSettings, split: Split) -> MicroBatch:
    """Return the largest pass of training: rows as long as the longest source, targets behind."""
    longest = max((row.width for row in (*split.rows, *split.longest)), default=1)
    source = min(longest + target_tokens(run)[0], settings_of(run).max_source_tokens)
    rows = run.optimization.per_device_batch_size
    target = max(target_tokens(run))
    return MicroBatch(rows=rows, image_rows=rows, width=source + target, scored=rows * target)


def whole_memory(
    size: WholeSize, numerics: Numerics, batch: MicroBatch, *, device: DeviceType
) -> Memory:
    """Predict the peak of a training process."""
    tokens = batch.rows * batch.width
    of_layer = numerics.bytes * tokens * (12 * size.width + 2 * size.ffn_width)
    of_layer += (2 * numerics.bytes + 1) * batch.rows * size.heads * batch.width**2
    layers = of_layer * (1 if numerics.checkpointing else 2 * size.layers)
    logits = batch.scored * size.vocabulary * (numerics.bytes + 4)
    allowance = CUDA_CONTEXT_BYTES if device == "cuda" else PROCESS_BYTES
    return dataclasses.replace(
        NO_MEMORY,
        adapter=_FP32 * size.parameters,
        gradients=_FP32 * size.parameters * (2 if numerics.accumulates else 1),
        optimizer=(3 if numerics.averages else 2) * _FP32 * size.parameters,
        llm_activations=layers,
        logits=2 * logits,
        overhead=allowance + int(FRAGMENTATION * (layers + 2 * logits)),
    )
