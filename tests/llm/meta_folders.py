"""Writes tiny folders in the layout of Meta's releases, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests import tiny

WIDTH, INNER, LAYERS, HEADS = 32, 64, 2, 4
_ROWS = ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3")


def make_meta_folder(
    folder: Path, *, shards: int = 1, params: dict[str, Any] | None = None, **more: Tensor
) -> Path:
    """Write params.json, consolidated.*.pth and tokenizer.model.

    Args:
        folder: to write.
        shards: number of files that the weights are split over.
        params: entries of params.json that are other than the weights say.
        more: tensors that every shard holds beside its weights, dots in their names as `__`.
    """
    folder.mkdir(parents=True)
    state = _weights(tiny.make_tokenizer(folder / "tokenizer.model"))
    for number in range(shards):
        part = {name: _part(name, tensor, number, shards) for name, tensor in state.items()}
        part |= {name.replace("__", "."): tensor for name, tensor in more.items()}
        torch.save(part, folder / f"consolidated.{number:02}.pth")
    right = {"dim": WIDTH, "multiple_of": 32, "n_heads": HEADS, "n_layers": LAYERS}
    content = {**right, "norm_eps": 1e-6, "vocab_size": -1, **(params or {})}
    (folder / "params.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def _weights(vocabulary: int) -> dict[str, Tensor]:
    shapes = {
        "tok_embeddings": (vocabulary, WIDTH),
        "norm": (WIDTH,),
        "output": (vocabulary, WIDTH),
    }
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        shapes |= {f"{at}.attention.{name}": (WIDTH, WIDTH) for name in ("wq", "wk", "wv", "wo")}
        shapes |= {f"{at}.feed_forward.{name}": (INNER, WIDTH) for name in ("w1", "w3")}
        shapes |= {f"{at}.feed_forward.w2": (WIDTH, INNER)}
        shapes |= {f"{at}.{name}": (WIDTH,) for name in ("attention_norm", "ffn_norm")}
    generator = torch.Generator().manual_seed(0)
    return {
        f"{name}.weight": torch.rand(size, generator=generator).half()
        for name, size in shapes.items()
    }


def _part(name: str, tensor: Tensor, number: int, shards: int) -> Tensor:
    if tensor.dim() == 1:
        return tensor
    is_by_rows = name == "output.weight" or any(f"{part}.weight" in name for part in _ROWS)
    return tensor.chunk(shards, dim=0 if is_by_rows else 1)[number].clone()
