"""Number formats by the names that settings give them, and the autocast of a forward pass."""

from collections.abc import Mapping

import torch

from ademvl.config.run import Precision

DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which training and evaluation compute; off with fp32."""
    return torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")
