"""Reads and writes checkpoints in the authors' form, without executing anything that is in them.

Such a file is made by torch.save and holds a dict of model, optimizer, epoch, scaler and args; the
last is an argparse.Namespace. torch's restricted unpickler reads it: tensors and plain containers,
and in place of that one class, known by its name alone, a class of ours that does nothing.

Read are also what others make of such files: the tensors under another key, alone, or in a file of
safetensors, which has no arguments.
"""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ademvl.config.methods_by_name import DEFAULT_METHOD
from ademvl.errors import WeightsError, list_findings
from ademvl.released.forms import FORMS, form_of
from ademvl.released.reference_names import DISTRIBUTED_PREFIX, bare_name
from ademvl.storage.files import atomic_path
from ademvl.storage.weight_files import read_weights

_NAMESPACE = "argparse.Namespace"
_STATE_KEYS = ("model", "state_dict", "model_state_dict")
_REMEDY = "Expected a checkpoint that the authors' training code wrote; get the file again."
_log = logging.getLogger(__name__)


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
        method: whose names and arguments these are.
    """

    state: Mapping[str, Tensor]
    args: Mapping[str, Any]
    epoch: int | None
    is_distributed: bool
    method: str = DEFAULT_METHOD


def read_checkpoint(path: Path) -> Checkpoint:
    """Read an adapter in the authors' form.

    Tensors stand under `model`, `state_dict` or `model_state_dict`, or alone; what distributed
    training and torch.compile put before their names does not matter.

    Raises:
        WeightsError: the file is missing or damaged, holds anything but tensors, plain values and
            an argparse.Namespace, or no adapter of a method in `FORMS`.
    """
    content = read_weights(path, remedy=_REMEDY, allowed=[(_Arguments, _NAMESPACE)])
    model = _find_state(content)
    if model is None:
        raise WeightsError(f"{path}: holds no entry `model`, and no tensors alone. {_REMEDY}")
    findings = [
        f"{name}: {_fault(tensor)}" for name, tensor in model.items() if _fault(tensor) is not None
    ]
    if findings:
        raise WeightsError(list_findings(f"{path}: tensors that cannot be used", findings, _REMEDY))
    form = form_of(model)
    state = form.from_released(model, source=str(path))
    args, epoch = content.get("args"), content.get("epoch")
    if args is None:
        _log.warning(
            "%s: holds no arguments; what its tensors do not tell (factors, prompts, ADEM-VL's "
            "scales, LaVIN's temperature) is taken as in the authors' code",
            path,
        )
    return Checkpoint(
        state=state,
        args=_plain_arguments(args, path),
        epoch=epoch if isinstance(epoch, int) else None,
        is_distributed=all(
            DISTRIBUTED_PREFIX in name.removesuffix(bare_name(name)) for name in model
        ),
        method=form.method,
    )


def _find_state(content: Any) -> Mapping[str, Any] | None:
    """Return the tensors of a checkpoint by their names in it; None where there are none."""
    if not isinstance(content, Mapping):
        return None
    found = next((content[key] for key in _STATE_KEYS if key in content), None)
    if found is None and any(isinstance(value, Tensor) for value in content.values()):
        found = {key: value for key, value in content.items() if key not in ("args", "epoch")}
    if not isinstance(found, Mapping) or not found:
        return None
    return {str(name): tensor for name, tensor in found.items()}


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
    tensors = FORMS[checkpoint.method].to_released(checkpoint.state)
    content: dict[str, Any] = {
        "model": {f"{prefix}{name}": tensor for name, tensor in tensors.items()},
        "args": argparse.Namespace(**checkpoint.args),
    }
    if checkpoint.epoch is not None:
        content["epoch"] = checkpoint.epoch
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
