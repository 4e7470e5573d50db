"""Reads stories260K's own layout (version 0 of llama2.c) and writes it as a Meta release."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

_NORM_EPS, _ROPE_THETA = 1e-5, 10_000.0


def write_meta_folder(stories: Path, folder: Path) -> Path:
    """Write params.json, consolidated.00.pth and tokenizer.model."""
    folder.mkdir(parents=True)
    raw = (stories / "stories260K.bin").read_bytes()
    dim, hidden, num_layers, num_heads, num_kv_heads, vocab_size, _ = np.frombuffer(raw, "<i4", 7)
    numbers = torch.from_numpy(np.frombuffer(raw, "<f4", offset=28).copy())
    kv_dim = dim // num_heads * num_kv_heads
    shapes = {
        "tok_embeddings": (vocab_size, dim),
        "attention_norm": (num_layers, dim),
        "attention.wq": (num_layers, dim, dim),
        "attention.wk": (num_layers, kv_dim, dim),
        "attention.wv": (num_layers, kv_dim, dim),
        "attention.wo": (num_layers, dim, dim),
        "ffn_norm": (num_layers, dim),
        "feed_forward.w1": (num_layers, hidden, dim),
        "feed_forward.w2": (num_layers, dim, hidden),
        "feed_forward.w3": (num_layers, hidden, dim),
        "norm": (dim,),
    }
    state, offset = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        tensor = numbers[offset : offset + size].view(*map(int, shape))
        offset += size
        if name in ("tok_embeddings", "norm"):
            state[f"{name}.weight"] = tensor
            continue
        for layer, weight in enumerate(tensor):
            state[f"layers.{layer}.{name}.weight"] = weight.clone()
    state["output.weight"] = state["tok_embeddings.weight"].clone()
    torch.save(state, folder / "consolidated.00.pth")
    params = {
        "dim": int(dim),
        "n_layers": int(num_layers),
        "n_heads": int(num_heads),
        "n_kv_heads": int(num_kv_heads),
        "norm_eps": _NORM_EPS,
        "rope_theta": _ROPE_THETA,
        "vocab_size": -1,
    }
    (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    shutil.copy(stories / "tok512.model", folder / "tokenizer.model")
    return folder
