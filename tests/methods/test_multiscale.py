"""Protects pooling: which patches a pooled token stands for, and the order of scales."""

import pytest
import torch

from ademvl.errors import SettingsError
from ademvl.methods.multiscale import pool_grid


def _grid(side: int) -> torch.Tensor:
    return torch.arange(side * side, dtype=torch.float32).reshape(1, -1, 1)


def test_cells_are_averaged_row_by_row():
    # 0  1 |  2  3
    # 4  5 |  6  7
    # -----+------
    # 8  9 | 10 11
    # 12 13 | 14 15
    pooled = pool_grid(_grid(4), (4,), pool="avg").flatten()
    assert pooled.tolist() == [2.5, 4.5, 10.5, 12.5]
    assert pool_grid(_grid(4), (4,), pool="max").flatten().tolist() == [5, 7, 13, 15]


def test_scales_are_joined_in_the_order_given():
    grid = _grid(4)
    joined = pool_grid(grid, (1, 16, 4), pool="avg").flatten()
    assert joined.tolist() == [7.5, *range(16), 2.5, 4.5, 10.5, 12.5]
    assert pool_grid(grid, (16,), pool="max") is grid


def test_cells_overlap_where_the_side_does_not_divide():
    pooled = pool_grid(_grid(3), (4,), pool="avg").flatten()
    assert pooled.tolist() == [2.0, 3.0, 5.0, 6.0]  # 2 x 2 cells with the middle shared


@pytest.mark.parametrize("scale", [0, 2, 25])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(SettingsError, match=f"{scale} is not possible with a tower of 16"):
        pool_grid(_grid(4), (4, scale), pool="avg")
