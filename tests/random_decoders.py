"""A decoder of a few thousand random weights, the same at every call."""

from typing import Any

import torch
from transformers import LlamaForCausalLM


def random_decoder(
    model_class: type = LlamaForCausalLM,
    *,
    vocabulary: int = 40,
    width: int = 16,
    layers: int = 2,
    heads: int = 2,
    kv_heads: int | None = None,
    seed: int = 0,
    **more: Any,
) -> Any:
    """Build a decoder of transformers, in evaluation; it leaves the global generator alone.

    Its MLPs are twice as wide inside, and its weights large enough that it answers to its input.
    `more` are further keys of its configuration.
    """
    config = model_class.config_class(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        **{"initializer_range": 0.2, **more},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(config).eval()
