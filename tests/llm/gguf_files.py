"""Writes a Llama of transformers, with a byte-level tokenizer, as a small GGUF file."""

from pathlib import Path
from typing import Any

import torch


def train_byte_level_tokenizer(texts: list[str], *, vocab_size: int) -> Any:
    """Return a tokenizer as GPT-2's: 0 is <|endoftext|>, 1 begins and 2 ends a sequence."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_gguf(path: Path, llm: Any, tokenizer: Any) -> Path:
    """Write a LlamaForCausalLM in fp32."""
    import json

    import gguf

    config = llm.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(pieces)
    writer.add_token_types([3 if piece.startswith("<|") else 1 for piece in pieces])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in llm.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = _halves_to_pairs(tensor, head_dim=config.head_dim)
        gguf_name = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(gguf_name, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _halves_to_pairs(weight: torch.Tensor, *, head_dim: int) -> torch.Tensor:
    heads = weight.view(-1, 2, head_dim // 2, weight.shape[1])  # (heads, 2, pairs, dim)
    return heads.transpose(1, 2).reshape(weight.shape).contiguous()
