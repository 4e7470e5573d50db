"""A tiny random decoder of each family of transformers that is supported, by name."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from transformers import (
    Gemma3ForCausalLM,
    GemmaForCausalLM,
    LlamaForCausalLM,
    MistralForCausalLM,
    Olmo2ForCausalLM,
    Olmo3ForCausalLM,
    OlmoForCausalLM,
    Phi3ForCausalLM,
    PhiForCausalLM,
    Qwen3ForCausalLM,
    SmolLM3ForCausalLM,
)

from tests.random_decoders import random_decoder

_WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
_WIDE_HEADS = {"head_dim": 6, "kv_heads": 2}  # not width / heads


class Family(NamedTuple):
    """Of decoders.

    Attributes:
        model_class: of transformers.
        more: keys of its configuration beside the sizes, as its released models have them.
    """

    model_class: type
    more: Mapping[str, Any]

    def decoder(self, **more: Any) -> Any:
        """Build a decoder of two layers, the same at every call; see `random_decoder`."""
        return random_decoder(self.model_class, **{"heads": 4, **self.more, **more})


FAMILIES: Mapping[str, Family] = {
    "Llama 3": Family(LlamaForCausalLM, {"kv_heads": 2}),
    "Mistral": Family(MistralForCausalLM, {"kv_heads": 2, "sliding_window": 4}),
    "Qwen 3": Family(Qwen3ForCausalLM, {**_WIDE_HEADS, "tie_word_embeddings": True}),
    "Gemma": Family(GemmaForCausalLM, {"head_dim": 6, "kv_heads": 1, "pad_token_id": 0}),
    "Gemma 3": Family(
        Gemma3ForCausalLM, {**_WIDE_HEADS, **_WINDOW, "query_pre_attn_scalar": 5, "pad_token_id": 0}
    ),
    "Phi": Family(PhiForCausalLM, {"partial_rotary_factor": 0.5}),
    "Phi 3": Family(Phi3ForCausalLM, {"kv_heads": 2, "pad_token_id": 0, "sliding_window": 4}),
    "SmolLM 3": Family(
        SmolLM3ForCausalLM, {"kv_heads": 2, "no_rope_layers": [1, 0], "pad_token_id": 0}
    ),
    "OLMo": Family(OlmoForCausalLM, {"clip_qkv": 8.0}),
    "OLMo 2": Family(Olmo2ForCausalLM, {"kv_heads": 2}),
    "OLMo 3": Family(Olmo3ForCausalLM, {"kv_heads": 2, **_WINDOW}),
}
