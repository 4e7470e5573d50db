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

from ademvl.planning.costs import costs_of
from ademvl.planning.frozen_costs import output_flops
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics


@dataclass(frozen=True, kw_only=True)
class StepFlops:
    """Operations of one pass of a micro-batch.

    Attributes:
        forward: language model with the method, output layer and what is made of the features.
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
    costs, output = costs_of(sizes), output_flops(sizes.llm, batch.scored)
    layers = costs.layers_forward(batch)
    return StepFlops(
        forward=layers + output + costs.images_forward(batch),
        backward=output + costs.backward(batch, checkpointing=numerics.checkpointing),
        recomputed=layers if numerics.checkpointing else 0,
        tower=costs.tower(batch.image_rows, training=True) if sizes.online else 0,
    )


def evaluation_flops(sizes: ModelSizes, batch: MicroBatch, *, new_tokens: int) -> int:
    """Count answering a batch: the prompt, then one token after another with a key-value cache.

    Args:
        batch: prompts.
        new_tokens: generated for each row; the last one is not fed back.
    """
    costs = costs_of(sizes)
    generated = sum(
        costs.layers_forward_cached(batch.rows, batch.image_rows, cached=batch.width + done)
        for done in range(new_tokens - 1)
    )
    output = output_flops(sizes.llm, new_tokens * batch.rows)
    tower = costs.tower(batch.image_rows, training=False) if sizes.online else 0
    prompt = costs.layers_forward(batch) + costs.images_forward(batch)
    return prompt + generated + output + tower
