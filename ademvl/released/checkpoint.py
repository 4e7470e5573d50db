"""Reads and writes checkpoints in the authors' form, without executing anything that is in them.

Such a file is made by torch.save and holds a dict of model, optimizer, epoch, scaler and args; the
last is an argparse.Namespace. torch's restricted unpickler reads it: tensors and plain containers,
and in place of that one class, known by its name alone, a class of ours that does nothing.
"""

import argparse
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ademvl.errors import WeightsError, list_findings
from ademvl.released.reference_names import DISTRIBUTED_PREFIX, from_reference, to_reference
from ademvl.storage.files import atomic_path

_NAMESPACE = "argparse.Namespace"
_REMEDY = "Expected a checkpoint that the authors' training code wrote; get the file again."
_REFUSED = re.compile(r"(?:GLOBAL|Unsupported (?:global|class|operand)|type) ([\w.]+)")
# Whatever a malformed or hostile file makes the restricted unpickler raise.
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, ValueError),
    *(TypeError, AttributeError, AssertionError, OverflowError, MemoryError, struct.error),
)


class _Arguments:
    """Stands in for argparse.Namespace; its attributes are what the file says."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of an adapter.

    Attributes:
        state: trained tensors by our names.
        args: arguments of the authors' training script, as plain values.
        epoch: number of the last epoch, counted from 0; None where the file does not say.
        is_distributed: whether names of tensors began with `module.`.
    """

    state: Mapping[str, Tensor]
    args: Mapping[str, Any]
    epoch: int | None
    is_distributed: bool


def read_checkpoint(path: Path) -> Checkpoint:
    """Read an adapter in the authors' form.

    Raises:
        WeightsError: the file is missing or damaged, holds anything but tensors, plain values and
            an argparse.Namespace, or no adapter of ADEM-VL.
    """
    content = _load(path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, Mapping) or not model:
        raise WeightsError(f"{path}: holds no entry `model`. {_REMEDY}")
    findings = [
        f"{name}: {_fault(tensor)}" for name, tensor in model.items() if _fault(tensor) is not None
    ]
    if findings:
        raise WeightsError(list_findings(f"{path}: tensors that cannot be used", findings, _REMEDY))
    epoch = content.get("epoch")
    return Checkpoint(
        state=from_reference(model, source=str(path)),
        args=_plain_arguments(content.get("args"), path),
        epoch=epoch if isinstance(epoch, int) else None,
        is_distributed=all(str(name).startswith(DISTRIBUTED_PREFIX) for name in model),
    )


def _load(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file. {_REMEDY}")
    try:
        with torch.serialization.safe_globals([(_Arguments, _NAMESPACE)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        # torch's own text recommends to load the file anyway: that is not repeated.
        first_line = str(error).strip().partition("\n")[0]
        if refused := _REFUSED.search(str(error)):
            raise WeightsError(
                f"{path}: refused, because it asks for {refused[1]} when it is loaded; only "
                f"tensors, plain values and {_NAMESPACE} are allowed. Do not load it by other "
                "means unless you trust its origin entirely."
            ) from None
        raise WeightsError(f"{path}: cannot be read: {first_line[:200]}. {_REMEDY}") from None


def _fault(tensor: Any) -> str | None:
    if not isinstance(tensor, Tensor):
        return f"{type(tensor).__name__}, expected a tensor"
    if tensor.layout != torch.strided or not tensor.is_floating_point():
        return f"{tensor.dtype}, {tensor.layout}, expected a dense tensor of floats"
    if not bool(tensor.isfinite().all()):
        return "not finite"
    return None


def _plain_arguments(args: Any, path: Path) -> dict[str, Any]:
    if args is None:
        return {}
    if not isinstance(args, _Arguments | Mapping):
        raise WeightsError(f"{path}: args is {type(args).__name__}. {_REMEDY}")
    values = dict(args) if isinstance(args, Mapping) else vars(args)
    try:
        return {str(name): _plain(value) for name, value in values.items()}
    except RecursionError:
        raise WeightsError(f"{path}: args is nested without end. {_REMEDY}") from None


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write an adapter in the authors' form, for their evaluation scripts.

    There is no optimizer and no scaler in it: their training does not go on from it.
    """
    prefix = DISTRIBUTED_PREFIX if checkpoint.is_distributed else ""
    content: dict[str, Any] = {
        "model": {
            f"{prefix}{name}": tensor for name, tensor in to_reference(checkpoint.state).items()
        },
        "args": argparse.Namespace(**checkpoint.args),
    }
    if checkpoint.epoch is not None:
        content["epoch"] = checkpoint.epoch
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
