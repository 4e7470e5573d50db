"""Sizes of a decoder, read off a configuration of transformers; no torch."""


def decoder_sizes(config: object) -> dict[str, int]:
    """Return width, layers, heads and widths inside of a decoder, by the names of `DecoderShape`.

    Args:
        config: of the text part, with the attributes that transformers gives it; `ffn_width` is 0
            where it does not tell.

    Raises:
        AttributeError: it has no width, heads or layers.
    """
    width, heads = config.hidden_size, config.num_attention_heads  # type: ignore[attr-defined]
    return {
        "width": width,
        "layers": config.num_hidden_layers,  # type: ignore[attr-defined]
        "heads": heads,
        "kv_heads": getattr(config, "num_key_value_heads", None) or heads,
        "head_dim": getattr(config, "head_dim", None) or width // heads,
        "ffn_width": getattr(config, "intermediate_size", 0),
    }
