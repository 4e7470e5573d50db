"""Protects MemVP: its rule, its rows of zeros, what is never used."""

import torch
import torch.nn.functional as F

from ademvl.methods.memvp.method import MEMVP_DROPOUT, fuse_memvp

FP32_TOLERANCE = 1e-5  # other order of sums


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_memvp_maps_scores_and_drops_at_random_in_training_only():
    states, keys, values = _random(2, 3, 4), _random(2, 50, 4, seed=2), _random(2, 50, 4, seed=3)
    options = {"target": torch.zeros_like(states), "alpha": 1.0, "purpose": "memvp.0"}
    evaluated = fuse_memvp(states, keys, values, dropout_seeds=None, **options)
    expected = F.silu(states @ keys.transpose(1, 2)) @ values
    torch.testing.assert_close(evaluated, expected, atol=FP32_TOLERANCE, rtol=0)
    trained = [
        fuse_memvp(states, keys, values, dropout_seeds=seeds, **options)
        for seeds in ([1, 2], [1, 2], [1, 3])
    ]
    assert torch.equal(trained[0], trained[1])
    assert torch.equal(trained[0][0], trained[2][0])
    assert not torch.equal(trained[0][1], trained[2][1])
    assert 0 < MEMVP_DROPOUT < 1
