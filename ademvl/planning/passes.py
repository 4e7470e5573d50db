"""Passes of training and batches of evaluation: drawn at random, put together as in a run."""

import math
import random
from collections.abc import Iterator, Sequence

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import RunSettings
from ademvl.data.batching import MAX_PLACES, batches_by_length
from ademvl.data.passes import divide_rows, shared_passes
from ademvl.planning.rows import Row
from ademvl.planning.sizes import MicroBatch
from ademvl.planning.workload import Split

PassRows = Sequence[Row]
"""Rows that go through the model together."""


def simulated_steps(
    optimization: OptimizationSettings,
    rows: Sequence[Row],
    *,
    image_tokens: int,
    devices: int = 1,
) -> Iterator[list[list[PassRows]]]:
    """Draw effective batches without end, and give the passes of each device.

    Args:
        optimization: sizes of the batches.
        rows: to draw from.
        image_tokens: what an image counts for, see `ademvl.data.passes.image_tokens`.
        devices: that share the passes.
    """
    generator = random.Random(0)
    while True:
        drawn = generator.choices(rows, k=optimization.effective_batch_size)
        row_sizes = [row.width + image_tokens * row.has_image for row in drawn]
        passes = divide_rows(row_sizes, num_passes=optimization.passes)
        yield [
            [[drawn[number] for number in numbers] for numbers in share]
            for share in shared_passes(passes, row_sizes, num_devices=devices)
        ]


def simulated_batches(rows: Sequence[Row], *, items: int, max_rows: int) -> list[MicroBatch]:
    """Draw what is evaluated, and put rows of like length together.

    Args:
        rows: to draw from.
        items: how many are evaluated.
        max_rows: of a batch.
    """
    drawn = random.Random(0).choices(rows, k=items) if items else []
    batches = batches_by_length([row.width for row in drawn], max_rows=max_rows)
    return [as_batch([drawn[number] for number in numbers]) for numbers in batches]


def as_batch(rows: PassRows) -> MicroBatch:
    """Return what rows take together, padded to the longest."""
    return MicroBatch(
        rows=len(rows),
        image_rows=sum(row.has_image for row in rows),
        width=max(row.width for row in rows),
        scored=sum(row.scored for row in rows),
    )


def largest_evaluation_batch(run: RunSettings, split: Split) -> MicroBatch:
    """Return what the largest batches of evaluation have, of rows and of tokens, in one."""
    size = min(run.evaluation.batch_size, split.items)
    longest = max((row.width for row in split.longest), default=run.prompts.window)
    width = min(longest, math.ceil(max(MAX_PLACES, longest) / max(size, 1)))
    images = size if any(row.has_image for row in split.rows) else 0
    return MicroBatch(rows=size, image_rows=images, width=width, scored=size)
