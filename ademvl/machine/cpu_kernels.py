"""Faster arithmetic on CPUs, without touching any model: a context in which work is done.

torch multiplies fp32 matrices with MKL, which leaves half of an AMD processor's vector width unused
(measured on a Zen 5 core, 2720 x 128 by 128 x 384: 95 GFLOP/s, against 228 with oneDNN, which torch
brings along too). Precision is the same; the order of sums, and so the last bit, is not.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES, _MAPPED_BYTES = 1 << 30, 32 << 20  # 32 MiB is the most that glibc accepts
_FEW_ROWS, _SMALL_WEIGHT = 64, 1 << 20
_IS_FAST: ContextVar[bool] = ContextVar("is_fast", default=False)


@contextmanager
def fast_cpu(device: torch.device | None = None) -> Iterator[None]:
    """Multiply by frozen fp32 weights through oneDNN in this block, and keep freed memory.

    Only products whose weight needs no gradient are rerouted; gradients of their input are too.
    On other devices, in other precisions and under autocast nothing changes.

    Args:
        device: where the work is done, if known: for a GPU nothing is looked at on the way.
    """
    if device is not None and device.type != "cpu":
        yield
        return
    _keep_freed_memory()
    if not _has_onednn():
        yield
        return
    with _fast_linear():
        yield


def present_arithmetic() -> AbstractContextManager[None]:
    """Return a block that multiplies as it is done now, for what a backward pass computes again.

    torch switches off what `fast_cpu` has set for the duration of a backward pass, and a checkpoint
    that is recomputed by other kernels is refused.
    """
    return _fast_linear() if _IS_FAST.get() else nullcontext()


@contextmanager
def _fast_linear() -> Iterator[None]:
    before = _IS_FAST.set(True)
    try:
        with _FrozenLinearMode():
            yield
    finally:
        _IS_FAST.reset(before)


class _FrozenLinearMode(TorchFunctionMode):
    """Sends `torch.nn.functional.linear` with a frozen weight to `_FrozenLinear`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is functional.linear and not kwargs and _is_suited(*args):
            inputs, weight, *bias = args
            # As rows: the operator's own reshaping would make its output a view, which a model
            # (OLMo, which clamps queries) may not change in place.
            rows = inputs.flatten(0, -2)
            multiply = _FrozenLinear.apply if torch.is_grad_enabled() else _onednn_linear
            output = multiply(rows, weight, *(bias or [None]))
            return output.unflatten(0, inputs.shape[:-1])
        return func(*args, **(kwargs or {}))


class _FrozenLinear(torch.autograd.Function):
    """x W^T + b through oneDNN, with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _onednn_linear(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _onednn_linear(grad.contiguous(), weight.t(), None), None, None


def _is_suited(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    return (
        inputs.device.type == "cpu"
        and inputs.dtype == weight.dtype == torch.float32
        and not weight.requires_grad
        and (bias is None or not bias.requires_grad)
        and inputs.ndim >= 2
        and inputs.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and not (_is_small(inputs, weight) and not torch.is_grad_enabled())
    )


def _is_small(inputs: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN takes longer to lay out the weight than to multiply by it, as in generation.

    Measured with 4 rows: 128 x 128 four times as long as MKL in all, 256 x 256 twice; from 64 rows
    or widths of 1024 on as long or shorter.
    """
    rows = inputs.numel() // inputs.shape[-1]
    return rows < _FEW_ROWS and weight.numel() < _SMALL_WEIGHT


def _onednn_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # The operator that torch.compile emits for linear layers on CPUs.
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return result


def _has_onednn() -> bool:
    has_library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_library) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _keep_freed_memory() -> None:
    """Ask glibc not to hand freed blocks back: each step asks for the same ones again."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent in other C libraries
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
            mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
