"""Which of a machine's GPUs a study may use: `all`, a number, or a list."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import PlainValidator, WithJsonSchema

from ademvl.config.strict_yaml import load_yaml
from ademvl.errors import SettingsError

GpuLimit: TypeAlias = "str | int | Sequence[int | str]"
_EXPECTED = (
    "expected `all`, a number of GPUs (0: CPU only), or a list of different indices or UUIDs such "
    "as [0, 3], as nvidia-smi -L shows them"
)


def check_gpu_limit(limit: GpuLimit, *, key: str = "gpus") -> None:
    """Refuse what is neither `all`, nor a number >= 0, nor a list of different devices.

    Raises:
        SettingsError: names the key and the allowed values.
    """
    if not _is_limit(limit):
        raise SettingsError(f"{key}: {limit!r}, {_EXPECTED}")


def _is_limit(limit: Any) -> bool:
    if isinstance(limit, str | int):
        return limit == "all" or (type(limit) is int and limit >= 0)
    if not isinstance(limit, list | tuple) or not all(type(one) in (int, str) for one in limit):
        return False
    names = [str(entry) for entry in limit]
    return len(set(names)) == len(names) and all(map(is_device, names))


def _read(limit: Any) -> Any:
    if not _is_limit(limit):
        raise ValueError(f"{limit!r}, {_EXPECTED}")
    return tuple(limit) if isinstance(limit, list) else limit


_DEVICE = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"const": "all"},
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": _DEVICE},
    ]
}
GpuSetting: TypeAlias = Annotated[
    Literal["all"] | int | tuple[int | str, ...], PlainValidator(_read), WithJsonSchema(_SCHEMA)
]
"""Type of a setting that is a limit."""


def parse_gpu_limit(text: str) -> GpuLimit:
    """Read a limit as it is written in a study file.

    Raises:
        SettingsError: it is none.
    """
    try:
        limit = load_yaml(text)
    except yaml.YAMLError:
        limit = text
    if not isinstance(limit, str | int | list):
        limit = text
    check_gpu_limit(limit, key="--gpu-limit")
    return limit


def is_device(name: str) -> bool:
    """Whether this is the index or the UUID of a GPU, or of a MIG part of one."""
    return name.isdecimal() or bool(re.fullmatch(r"(GPU|MIG)-[0-9A-Za-z/-]+", name))
