"""Which rows are predicted together: those of like length, so that little of a batch is padding."""

from collections.abc import Sequence

MAX_PLACES = 2048
"""Tokens of a batch at most, padding included: enough for a GPU to be busy with a large model, and
few enough to leave a CPU's caches rarely."""


def batches_by_length(lengths: Sequence[int], *, max_rows: int) -> list[list[int]]:
    """Divide rows into batches, the longest rows first, so that memory runs out at once or never.

    What a row's answer is does not depend on its batch.

    Args:
        lengths: tokens of each row.
        max_rows: rows of a batch at most; >= 1. One row is a batch, however long it is.

    Returns:
        The numbers of the rows of each batch; each row is in one.
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        is_full = not batches or len(batches[-1]) == max_rows
        if is_full or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > MAX_PLACES:
            batches.append([])
        batches[-1].append(row)
    return batches
