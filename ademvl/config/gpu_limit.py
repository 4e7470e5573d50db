"""Which of a machine's GPUs a study may use: `all`, a number, or a list."""

import re
from collections.abc import Sequence
from typing import TypeAlias

import yaml

from ademvl.errors import SettingsError

GpuLimit: TypeAlias = "str | int | Sequence[int | str]"


def check_gpu_limit(limit: GpuLimit, *, key: str = "gpus") -> None:
    """Refuse what is neither `all`, nor a number >= 0, nor a list of different devices.

    Raises:
        SettingsError: names the key and the allowed values.
    """
    if isinstance(limit, bool):
        good = False
    elif isinstance(limit, str | int):
        good = limit == "all" or (isinstance(limit, int) and limit >= 0)
    else:
        names = [str(entry) for entry in limit]
        good = len(set(names)) == len(names) and all(map(is_device, names))
    if not good:
        raise SettingsError(
            f"{key}: {limit!r}, expected `all`, a number of GPUs (0: CPU only), or a list of "
            "different indices or UUIDs such as [0, 3], as nvidia-smi -L shows them"
        )


def parse_gpu_limit(text: str) -> GpuLimit:
    """Read a limit as it is written in a study file.

    Raises:
        SettingsError: it is none.
    """
    try:
        limit = yaml.safe_load(text)
    except yaml.YAMLError:
        limit = text
    if not isinstance(limit, str | int | list):
        limit = text
    check_gpu_limit(limit, key="--gpu-limit")
    return limit


def is_device(name: str) -> bool:
    """Whether this is the index or the UUID of a GPU, or of a MIG part of one."""
    return name.isdecimal() or bool(re.fullmatch(r"(GPU|MIG)-[0-9A-Za-z/-]+", name))
