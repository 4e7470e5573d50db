"""Protects the sum of gradients: exact, and none for parameters that nobody used."""

import torch
from torch import nn

from ademvl.training.gradients import GradientSum
from ademvl.training.processes import ALONE


def _parameters() -> list[nn.Parameter]:
    return [
        nn.Parameter(torch.ones(2, 3)),
        nn.Parameter(torch.ones(4)),
        nn.Parameter(torch.ones(1)),
    ]


def _sum(passes: list[list[torch.Tensor | None]]) -> list[torch.Tensor | None]:
    parameters = _parameters()
    total = GradientSum(parameters, ALONE)
    total.clear()
    for gradients in passes:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        total.add()
    assert total.finish([torch.tensor(1.5), torch.tensor(2)]) == [1.5, 2.0]
    return [parameter.grad for parameter in parameters]


def test_order_of_passes_does_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    passes = [
        [
            torch.randn(2, 3, generator=generator) * 10.0**-i,
            torch.randn(4, generator=generator),
            None,
        ]
        for i in range(8)
    ]
    forwards, backwards = _sum(passes), _sum(passes[::-1])
    assert all(torch.equal(a, b) for a, b in zip(forwards[:2], backwards[:2], strict=True))
    expected = sum(gradients[0].double() for gradients in passes).float()
    assert torch.equal(forwards[0], expected)


def test_parameter_that_no_pass_used_keeps_none() -> None:
    used = _sum([[torch.zeros(2, 3), None, None], [None, torch.ones(4), None]])
    assert torch.equal(used[0], torch.zeros(2, 3))
    assert torch.equal(used[1], torch.ones(4))
    assert used[2] is None


def test_next_batch_begins_at_zero() -> None:
    parameters = _parameters()
    total = GradientSum(parameters, ALONE)
    for _ in range(2):
        total.clear()
        parameters[1].grad = torch.ones(4)
        total.add()
        total.finish([torch.tensor(0)])
        assert torch.equal(parameters[1].grad, torch.ones(4))
        assert parameters[0].grad is None


def test_what_is_not_finite_stays_so() -> None:
    found = _sum([[torch.full((2, 3), torch.inf), None, None], [torch.ones(2, 3), None, None]])
    assert not found[0].isfinite().any()
