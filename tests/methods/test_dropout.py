"""Protects dropout that depends on each row's seed alone."""

import pytest
import torch

from ademvl.methods.dropout import drop_rows

ROWS = torch.ones(3, 40, 50)
NUM_STANDARD_ERRORS = 5


def test_masks_follow_seed_and_purpose():
    first = drop_rows(ROWS, [1, 2, 3], p=0.3, purpose="a")
    assert torch.equal(first, drop_rows(ROWS, [1, 2, 3], p=0.3, purpose="a"))
    assert torch.equal(first[1:], drop_rows(ROWS[1:], [2, 3], p=0.3, purpose="a"))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, drop_rows(ROWS, [1, 2, 3], p=0.3, purpose="b"))


def test_kept_values_are_scaled_up():
    dropped = drop_rows(ROWS, [1, 2, 3], p=0.3, purpose="a")
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], torch.full_like(dropped[kept], 1 / 0.7))
    standard_error = (0.3 * 0.7 / ROWS.numel()) ** 0.5
    assert abs(float(kept.float().mean()) - 0.7) < NUM_STANDARD_ERRORS * standard_error


def test_gradient_is_masked_alike():
    states = ROWS.clone().requires_grad_()
    dropped = drop_rows(states, [1, 2, 3], p=0.5, purpose="a")
    dropped.sum().backward()
    assert torch.equal(states.grad, dropped.detach())


def test_without_seeds_nothing_is_dropped_and_no_global_state_is_used():
    before = torch.get_rng_state()
    assert drop_rows(ROWS, None, p=0.3, purpose="a") is ROWS
    assert drop_rows(ROWS, [1, 2, 3], p=0.0, purpose="a") is ROWS
    drop_rows(ROWS, [1, 2, 3], p=0.3, purpose="a")
    assert torch.equal(torch.get_rng_state(), before)


def test_wrong_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="2 seeds for 3 rows"):
        drop_rows(ROWS, [1, 2], p=0.3, purpose="a")
