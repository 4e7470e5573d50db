"""Protects the rerouted matrix products: the same numbers, and only where weights are frozen."""

import pytest
import torch
from torch import nn

from ademvl.machine import cpu_kernels
from ademvl.machine.cpu_kernels import fast_cpu

# Sums of 64 fp32 products of order 1 in another order.
TOLERANCE = 1e-5


def _layer(*, frozen: bool, bias: bool) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(64, 48, bias=bias)
    return layer.requires_grad_(not frozen)


def _product(layer: nn.Linear, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(shape, generator=generator, requires_grad=True)
    output = layer(inputs)
    output.backward(torch.randn(output.shape, generator=generator))
    assert inputs.grad is not None
    return output.detach(), inputs.grad


@pytest.mark.parametrize("shape", [(5, 64), (3, 5, 64), (2, 3, 5, 64), (0, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_frozen_product_and_its_gradient_are_the_same(shape: tuple[int, ...], bias: bool) -> None:
    layer = _layer(frozen=True, bias=bias)
    expected = _product(layer, shape)
    with fast_cpu():
        found = _product(layer, shape)
    for tensor, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(tensor, reference, atol=TOLERANCE, rtol=0)


def test_what_comes_out_may_be_changed_in_place() -> None:
    """OLMo clamps its queries, keys and values so."""
    inputs, weight = torch.randn(2, 3, 8, requires_grad=True), torch.randn(4, 8)
    with fast_cpu():
        nn.functional.linear(inputs, weight).clamp_(min=-1, max=1).sum().backward()
    inside = (inputs.detach() @ weight.T).abs() < 1
    torch.testing.assert_close(inputs.grad, inside.float() @ weight)


def test_transposed_inputs_give_the_same() -> None:
    layer = _layer(frozen=True, bias=True)
    inputs = torch.randn(64, 7, generator=torch.Generator().manual_seed(2)).t()
    with fast_cpu():
        found = layer(inputs)
    torch.testing.assert_close(found, layer(inputs), atol=TOLERANCE, rtol=0)


def test_trained_weights_get_their_gradients() -> None:
    layer = _layer(frozen=False, bias=True)
    with fast_cpu():
        _product(layer, (5, 64))
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None


def test_other_precisions_are_left_alone() -> None:
    layer = _layer(frozen=True, bias=True).double()
    inputs = torch.ones(3, 64, dtype=torch.float64)
    with fast_cpu():
        assert torch.equal(layer(inputs), nn.functional.linear(inputs, layer.weight, layer.bias))


def test_autocast_keeps_its_precision() -> None:
    layer = _layer(frozen=True, bias=True)
    with fast_cpu(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.ones(3, 64)).dtype == torch.bfloat16


@pytest.mark.parametrize("rows", [1, 200])
def test_products_of_inference_are_the_same(rows: int) -> None:
    layer = _layer(frozen=True, bias=True)
    inputs = torch.randn(rows, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = layer(inputs)
        with fast_cpu():
            found = layer(inputs)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_few_rows_of_inference_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = _layer(frozen=True, bias=False)
    rerouted = []
    monkeypatch.setattr(
        cpu_kernels, "_onednn_linear", lambda inputs, *_: rerouted.append(len(inputs)) or inputs
    )
    with torch.inference_mode(), fast_cpu():
        for number in (1, 63, 64, 200):
            layer(torch.randn(number, 64))
    assert rerouted == [64, 200]
