"""Dropout whose mask depends on a seed for each row, and on nothing else.

The usual dropout draws from the global generator, so its masks change with the batch size, with
the number of processes and with a resume. Here each row brings its own seed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ademvl.randomness import derive_seed


def drop_rows(states: Tensor, seeds: Sequence[int] | None, *, p: float, purpose: str) -> Tensor:
    """Zero each element with probability `p` and scale the others by 1 / (1 - p).

    Args:
        states: (B, ...), any float dtype.
        seeds: one for each of the B rows; None leaves `states` as they are (evaluation).
        p: probability, 0 <= p < 1.
        purpose: tells apart several places that are given the same seeds.

    Returns:
        Same shape and dtype. On a GPU the masks differ from those on the CPU.

    Raises:
        ValueError: the number of seeds is not B.
    """
    if seeds is None or p == 0:
        return states
    if len(seeds) != len(states):
        raise ValueError(f"{len(seeds)} seeds for {len(states)} rows")
    keep = torch.empty_like(states, requires_grad=False)
    generator = torch.Generator(device=states.device)
    for row, seed in zip(keep, seeds, strict=True):
        row.bernoulli_(1 - p, generator=generator.manual_seed(derive_seed(purpose, seed)))
    return states * keep.div_(1 - p)


def drop_parts(
    states: Tensor, seeds: Sequence[int] | None, *, dims: int, p: float, purpose: str
) -> Tensor:
    """Drop whole parts of rows: elements with the first `dims` indices in common go together.

    Args:
        states: (B, ...), any float dtype.
        seeds: see `drop_rows`.
        dims: 1 for whole rows, 2 for those of the second dimension.
        p: see `drop_rows`.
        purpose: see `drop_rows`.

    Returns:
        Same shape and dtype.
    """
    if seeds is None or p == 0:
        return states
    shape = (*states.shape[:dims], *[1] * (states.ndim - dims))
    return states * drop_rows(states.new_ones(shape), seeds, p=p, purpose=purpose)
