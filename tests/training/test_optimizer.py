"""Protects the optimiser's groups and its treatment of parameters without a gradient."""

import pytest
import torch
from torch import nn

from ademvl.config.optimization import OptimizationSettings
from ademvl.methods.base import Method
from ademvl.training.optimizer import build_optimizer, set_lr, zero_missing_gradients
from tests.tiny import method_of


def _module() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 1))
    module[2].weight.requires_grad_(False)
    return module


def test_vectors_come_first_and_are_not_decayed() -> None:
    module = _module()
    optimizer = build_optimizer(method_of(module), OptimizationSettings(weight_decay=0.02))
    vectors, matrices = optimizer.param_groups
    assert [p.ndim for p in vectors["params"]] == [1, 1, 1, 1]
    assert vectors["weight_decay"] == 0.0
    assert [p is module[0].weight for p in matrices["params"]] == [True]
    assert matrices["weight_decay"] == 0.02
    assert optimizer.defaults["betas"] == (0.9, 0.95)
    assert optimizer.defaults["eps"] == 1e-8


def test_parameter_without_gradient_is_not_decayed() -> None:
    used, unused = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = build_optimizer(
        method_of(nn.ParameterDict({"used": used, "unused": unused})), OptimizationSettings()
    )
    set_lr(optimizer, 0.1)
    used.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(unused, torch.ones(2, 2))
    assert not torch.equal(used, torch.ones(2, 2))


def test_fused_update_equals_adamw_written_out() -> None:
    settings = OptimizationSettings(weight_decay=0.02)
    parameter = nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float32).view(3, 4))
    expected = parameter.detach().double()
    optimizer = build_optimizer(method_of(nn.ParameterDict({"p": parameter})), settings)
    mean, variance = torch.zeros_like(expected), torch.zeros_like(expected)
    for step in range(1, 6):
        lr = 1e-3 * step
        gradient = torch.sin(torch.arange(12.0) * step).view(3, 4)
        set_lr(optimizer, lr)
        parameter.grad = gradient.clone()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient.double()
        variance = 0.95 * variance + 0.05 * gradient.double() ** 2
        expected = expected * (1 - lr * 0.02)
        expected -= lr * (mean / (1 - 0.9**step)) / ((variance / (1 - 0.95**step)).sqrt() + 1e-8)
    torch.testing.assert_close(parameter.detach().double(), expected, atol=1e-6, rtol=0)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter"):
        build_optimizer(method_of(nn.Module()), OptimizationSettings())


def test_missing_gradients_count_as_zeros_where_a_parameter_has_moved_before() -> None:
    moved, never = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = build_optimizer(
        method_of(nn.ParameterDict({"moved": moved, "never": never})), OptimizationSettings()
    )
    set_lr(optimizer, 0.1)
    moved.grad = torch.ones(2, 2)
    optimizer.step()
    after_first = moved.detach().clone()
    optimizer.zero_grad(set_to_none=True)
    zero_missing_gradients(optimizer)
    assert never.grad is None
    optimizer.step()
    # Momentum goes on (it was 0.1, times 0.9), and so does decay.
    mean, variance = 0.09 / (1 - 0.9**2), 0.05 * 0.95 / (1 - 0.95**2)
    expected = after_first * (1 - 0.1 * 0.02) - 0.1 * mean / (variance**0.5 + 1e-8)
    torch.testing.assert_close(moved.detach(), expected)


class _OwnRules(Method):
    """A gate of four dimensions that is not decayed, and a table that learns slower."""

    def decays(self, name: str, parameter: torch.Tensor) -> bool:
        return "gate" not in name

    def lr_factor(self, name: str) -> float:
        return 0.5 if "table" in name else 1.0


def test_a_method_says_what_decays_and_how_fast_it_learns() -> None:
    parts = {
        "gate": nn.Parameter(torch.ones(1, 2, 1, 1)),
        "table": nn.Parameter(torch.ones(2, 2)),
        "vector": nn.Parameter(torch.ones(2)),
    }
    optimizer = build_optimizer(
        method_of(nn.ParameterDict(parts), _OwnRules), OptimizationSettings(weight_decay=0.02)
    )
    set_lr(optimizer, 0.1)
    found = {
        name: (group["weight_decay"], group["lr"])
        for group in optimizer.param_groups
        for name, parameter in parts.items()
        if any(parameter is p for p in group["params"])
    }
    assert found == {"gate": (0.0, 0.1), "table": (0.02, 0.05), "vector": (0.02, 0.1)}
