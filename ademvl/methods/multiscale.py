"""The multiscale visual prompt: a tower's grid of tokens pooled to several coarser grids."""

from collections.abc import Sequence
from math import isqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ademvl.errors import SettingsError


def pool_grid(grid: Tensor, scales: Sequence[int], *, pool: Literal["avg", "max"]) -> Tensor:
    """Pool a square grid of tokens to each scale, and join the results along the token axis.

    Paper: arXiv 2410.17779, multiscale visual prompts. Cells are adaptive where a scale's side
    does not divide the grid's; a scale of G gives the grid as it is.

    Args:
        grid: (B, G, C), row by row, G a square number.
        scales: numbers of pooled tokens, each a square <= G, in the order wanted.
        pool: average or maximum over a cell.

    Returns:
        (B, sum of scales, C), dtype of `grid`.

    Raises:
        SettingsError: a scale is no square or finer than the grid.
    """
    check_scales(scales, num_grid_tokens=grid.shape[1])
    pooled = [_pool_to(grid, scale, pool=pool) for scale in scales]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)  # (B, N, C)


def check_scales(scales: Sequence[int], *, num_grid_tokens: int) -> None:
    """Raise SettingsError unless a grid of `num_grid_tokens` can be pooled to each scale."""
    for scale in scales:
        if scale < 1 or isqrt(scale) ** 2 != scale or scale > num_grid_tokens:
            raise SettingsError(
                f"method.scales, method.visual_tokens: {scale} is not possible with a tower of "
                f"{num_grid_tokens} grid tokens; choose square numbers up to {num_grid_tokens}"
            )


def _pool_to(grid: Tensor, scale: int, *, pool: Literal["avg", "max"]) -> Tensor:
    batch_size, num_grid_tokens, width = grid.shape
    if scale == num_grid_tokens:
        return grid
    side, pooled_side = isqrt(num_grid_tokens), isqrt(scale)
    image = grid.reshape(batch_size, side, side, width).permute(0, 3, 1, 2)  # (B, C, H, W)
    pooling = F.adaptive_avg_pool2d if pool == "avg" else F.adaptive_max_pool2d
    pooled = pooling(image, (pooled_side, pooled_side))
    return pooled.permute(0, 2, 3, 1).reshape(batch_size, scale, width)  # (B, scale, C)
