"""Reads files of weights, torch's and safetensors, without executing anything that is in them.

torch's own advice for files that its restricted unpickler refuses, to load them anyway, is never
passed on.
"""

import pickle
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.errors import WeightsError
from ademvl.storage.stand_ins import refuse_stand_in

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS_SUFFIX = ".safetensors"

_REFUSED = re.compile(r"(?:GLOBAL|Unsupported (?:global|class|operand)|type) ([\w.]+)")
_MAX_REASON = 200
# Whatever a malformed or hostile file makes the restricted unpickler raise.
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, ValueError),
    *(TypeError, AttributeError, AssertionError, OverflowError, MemoryError, struct.error),
)


def read_weights(
    path: Path, *, remedy: str, mmap: bool = False, allowed: Sequence[tuple[type, str]] = ()
) -> Any:
    """Read a file of weights onto the CPU; the suffix says whether it is of safetensors or torch.

    Args:
        remedy: what to do about a file that is missing or damaged.
        mmap: read tensors of a torch file when they are used only.
        allowed: classes that a torch file may name beside tensors and plain containers, each with
            the name under which it does.

    Returns:
        What the file holds: tensors by name of safetensors, anything of torch.

    Raises:
        WeightsError: the file is missing or damaged, another file stands under its name, or it
            asks for anything that is not allowed.
    """
    if not path.is_file():
        what = "no regular file" if path.exists() else "no such file"
        raise WeightsError(f"{path}: {what}. {remedy}")
    refuse_stand_in(path, expected="a file of weights", error=WeightsError)
    if path.suffix == SAFETENSORS_SUFFIX:
        return _read_safetensors(path, remedy)
    return _read_torch(path, remedy, mmap, allowed)


def _read_safetensors(path: Path, remedy: str) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: damaged, get it again: {_reason(error)}. {remedy}") from error
    return tensors


def _read_torch(path: Path, remedy: str, mmap: bool, allowed: Sequence[tuple[type, str]]) -> Any:
    import torch

    try:
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
    except _UNREADABLE as error:
        if refused := _REFUSED.search(str(error)):
            names = "".join(f", {name}" for _, name in allowed)
            raise WeightsError(
                f"{path}: refused, because it asks for {refused[1]} when it is loaded; only "
                f"tensors, plain values{names} are allowed. Do not load it by other means unless "
                "you trust its origin entirely."
            ) from None
        raise WeightsError(f"{path}: cannot be read: {_reason(error)}. {remedy}") from None


def _reason(error: BaseException) -> str:
    """Return the first line of an error."""
    return str(error).strip().partition("\n")[0][:_MAX_REASON]
