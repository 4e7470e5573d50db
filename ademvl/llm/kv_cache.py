"""What a decoder of transformers calls its cache of keys and values: releases of 5 differ.

Up to 5.23 it is `past_key_values`, from 5.24 on `cache`; the old name is taken with a warning until
5.40. Models whose code stands beside their weights may keep the old one for longer, so the decoder
is asked and not the release.
"""

import inspect

from torch import nn


def cache_name(decoder: nn.Module) -> str:
    """Return the name of the cache among a decoder's arguments, and of the same in its output.

    The signature is that of the innermost function: each decorator of transformers keeps what it
    wraps, as functools.wraps does.
    """
    arguments = inspect.signature(decoder.forward).parameters
    return "cache" if "cache" in arguments else "past_key_values"
