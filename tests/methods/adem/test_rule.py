"""Protects the fusion rule: the threshold with its ties, gradients, feature maps."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from ademvl.methods.adem.rule import (
    PHI,
    drop_low_scores,
    fuse_adem,
    keep_mask,
    smallest_at,
    visual_scores,
)
from ademvl.methods.adem.settings import Phi

FP32_TOLERANCE = 1e-5  # other order of sums
DROP = partial(drop_low_scores, gamma=0.4)
HALF_TOLERANCE = 5e-2  # bfloat16 has 8 bits; values are of order 1


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_scores_below_the_threshold_become_zero_and_ties_stay():
    # N = 6, gamma = 0.5: the threshold is element floor(0.5 * 6) = 3 of the sorted row.
    scores = torch.tensor(
        [
            [
                [0.3, -2.0, 0.1, 0.2, 0.9, 0.5],  # sorted: -2 .1 .2 | .3 .5 .9
                [0.2, 0.2, 0.2, 0.1, 0.2, 0.7],  # threshold .2 is tied four times: one dropped
                [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # all tied: nothing dropped
                [-1.0, -3.0, -2.0, -5.0, -4.0, -6.0],  # lowest means most negative
            ]
        ]
    )
    expected = torch.tensor(
        [
            [
                [0.3, 0.0, 0.0, 0.0, 0.9, 0.5],
                [0.2, 0.2, 0.2, 0.0, 0.2, 0.7],
                [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                [-1.0, -3.0, -2.0, 0.0, 0.0, 0.0],
            ]
        ]
    )
    assert torch.equal(drop_low_scores(scores, gamma=0.5), expected)
    assert keep_mask(scores, gamma=0.5).sum(dim=-1).tolist() == [[3, 5, 6, 3]]


@pytest.mark.parametrize(("gamma", "num_dropped"), [(0.0, 0), (0.09, 0), (0.1, 1), (0.99, 9)])
def test_number_of_dropped_scores_is_rounded_down(gamma, num_dropped):
    scores = _random(2, 3, 10)
    kept = keep_mask(scores, gamma=gamma)
    assert (~kept).sum(dim=-1).eq(num_dropped).all()
    assert torch.equal(drop_low_scores(scores, gamma=gamma), scores * kept)


def test_gamma_zero_leaves_scores_untouched():
    scores = _random(2, 3, 10)
    assert drop_low_scores(scores, gamma=0.0) is scores


@pytest.mark.parametrize("gamma", [-0.1, 1.0, 1.5])
def test_impossible_gamma_is_refused(gamma):
    with pytest.raises(ValueError, match="gamma"):
        drop_low_scores(_random(1, 1, 4), gamma=gamma)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_selection_equals_sorting(dtype):
    scores = (_random(4, 5, 37) * 3).round().div(3).to(dtype)  # many ties
    ordered = scores.sort(dim=-1).values
    for index in (0, 1, 18, 36):
        assert torch.equal(smallest_at(scores, index), ordered[..., index : index + 1])


def test_gradient_flows_through_kept_scores_only():
    scores = _random(2, 3, 8).requires_grad_()
    drop_low_scores(scores, gamma=0.5).sum().backward()
    assert torch.equal(scores.grad, keep_mask(scores, gamma=0.5).float())


def test_fusion_is_the_formula():
    states, target = _random(2, 3, 4), _random(2, 3, 4, seed=1)
    keys, values = _random(2, 5, 4, seed=2), _random(2, 5, 4, seed=3)
    fused = fuse_adem(states, keys, values, target=target, alpha=0.25, phi="silu", select=DROP)
    scores = F.silu(states) @ keys.transpose(1, 2)
    threshold = scores.sort(dim=-1).values[..., 2:3]
    expected = target + 0.25 * torch.where(scores < threshold, 0.0, scores) @ values
    torch.testing.assert_close(fused, expected, atol=FP32_TOLERANCE, rtol=0)


def test_each_text_token_drops_by_its_own_scores_only():
    states, keys, values = _random(2, 6, 4), _random(2, 5, 4, seed=2), _random(2, 5, 4, seed=3)
    options = {"alpha": 1.0, "phi": "silu", "select": DROP}
    together = fuse_adem(states, keys, values, target=torch.zeros_like(states), **options)
    for row in range(2):
        for token in range(6):
            one = states[row : row + 1, token : token + 1]
            alone = fuse_adem(
                one,
                keys[row : row + 1],
                values[row : row + 1],
                target=torch.zeros_like(one),
                **options,
            )
            torch.testing.assert_close(
                together[row, token], alone[0, 0], atol=FP32_TOLERANCE, rtol=0
            )


def test_result_has_the_dtype_of_the_target():
    states, keys, values = _random(1, 3, 4), _random(1, 5, 4, seed=2), _random(1, 5, 4, seed=3)
    options = {"alpha": 0.5, "phi": "silu", "select": lambda scores: scores}
    exact = fuse_adem(states, keys, values, target=states, **options)
    for target_dtype in (torch.float32, torch.bfloat16):
        half = fuse_adem(
            states,
            keys.bfloat16(),
            values.bfloat16(),
            target=states.to(target_dtype),
            **options,
        )
        assert half.dtype == target_dtype
        torch.testing.assert_close(half.float(), exact, atol=HALF_TOLERANCE, rtol=HALF_TOLERANCE)


def test_feature_maps_by_hand():
    row = torch.tensor([[-1.0, 0.0, 2.0]])
    expected: dict[Phi, list[float]] = {
        "identity": [-1.0, 0.0, 2.0],
        "relu": [0.0, 0.0, 2.0],
        "elu": [-0.632121, 0.0, 2.0],  # exp(-1) - 1
        "silu": [-0.268941, 0.0, 1.761594],  # x / (1 + exp(-x))
        "silu_positive": [0.731059, 1.0, 2.761594],  # silu(x) - min(x)
        "softmax": [0.042010, 0.114195, 0.843795],
    }
    assert expected.keys() == PHI.keys()
    for phi, values in expected.items():
        torch.testing.assert_close(PHI[phi](row), torch.tensor([values]), atol=1e-6, rtol=0)


def test_scores_apply_the_map_to_queries_alone():
    states, keys = _random(1, 2, 3), _random(1, 4, 3, seed=1)
    scores = visual_scores(states, keys, phi="relu")
    torch.testing.assert_close(scores, states.relu() @ keys.transpose(1, 2))


def test_magnitude_drops_what_is_closest_to_zero():
    scores = torch.tensor([[[0.3, -2.0, 0.1, -0.2]]])  # by magnitude: .1 .2 | .3 2
    kept = torch.tensor([[[0.3, -2.0, 0.0, 0.0]]])
    assert torch.equal(drop_low_scores(scores, gamma=0.5, by="magnitude"), kept)
    assert torch.equal(keep_mask(scores, gamma=0.5, by="magnitude"), kept != 0)
