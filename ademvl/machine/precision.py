"""Number formats by the names that settings give them, and the autocast of a forward pass."""

from collections.abc import Mapping

import torch

from ademvl.config.run import Precision

DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def compute_dtype(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return the format that products of tensors on a device are computed in.

    Args:
        device: of the tensors.
        dtype: theirs, which it is where autocast is off.
    """
    # The device `meta` has no autocast, and is asked about it in counts at full size.
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return dtype


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which training and evaluation compute; off with fp32."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")
