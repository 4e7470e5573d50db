"""LLaMA weights in the layout of Meta's releases: params.json and consolidated.*.pth shards.

Rows of q and k are permuted, because Meta rotates neighbouring pairs of dimensions and transformers
halves. Shards are read lazily (memory-mapped), one tensor at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ademvl.config.downloads import META_PARAMS_FILE
from ademvl.errors import WeightsError, list_findings
from ademvl.llm.meta_params import REMEDY, MetaParams, read_meta_params
from ademvl.llm.meta_shards import Shard, check_shards, map_shards

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

# Meta's name of each tensor -> (name in transformers, dimension along which shards are split).
_LAYER_NAMES: Mapping[str, tuple[str, int | None]] = {
    "attention.wq.weight": ("self_attn.q_proj.weight", 0),
    "attention.wk.weight": ("self_attn.k_proj.weight", 0),
    "attention.wv.weight": ("self_attn.v_proj.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight", 0),
    "feed_forward.w2.weight": ("mlp.down_proj.weight", 1),
    "feed_forward.w3.weight": ("mlp.up_proj.weight", 0),
    "attention_norm.weight": ("input_layernorm.weight", None),
    "ffn_norm.weight": ("post_attention_layernorm.weight", None),
}
_TOP_NAMES: Mapping[str, tuple[str, int | None]] = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", 1),
    "norm.weight": ("model.norm.weight", None),
    "output.weight": ("lm_head.weight", 0),
}
_UNUSED = "rope.freqs"
"""End of the names of rotary frequencies, which are computed here: Llama 2 stores them once, LLaMA
in every layer (`layers.0.attention.inner_attention.rope.freqs`)."""


@dataclass(frozen=True)
class MetaCheckpoint:
    """A folder whose tensors are all there with the right shapes.

    Attributes:
        folder: with params.json and the shards.
        config: of the model, for transformers; `dtype` is that of the stored weights.
        shapes: by the name of each tensor in transformers, in the order of Meta's names.
    """

    folder: Path
    config: Any
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def open(cls, folder: Path) -> "MetaCheckpoint":
        """Compare names and shapes of the shards with the model; no weight is read yet.

        Raises:
            WeightsError: a file is missing or damaged, files do not belong together, or a tensor
                is missing, of another shape, or not known.
        """
        params = read_meta_params(folder / META_PARAMS_FILE)
        shards = map_shards(folder)
        check_shards(folder, shards, params)
        config = _config_of(params, shards, folder)
        shapes = _expected_shapes(config)
        names = _names(config.num_hidden_layers)
        if findings := list(_findings(names, shapes, shards)):
            raise WeightsError(list_findings(f"{folder}: not a LLaMA model", findings, REMEDY))
        ordered = {name: shapes[name] for name, _ in names.values()}
        return cls(folder, config, ordered)

    def tensors(self, names: Sequence[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Yield tensors by their names in transformers, in the stored dtype, one at a time.

        What was read of the shards leaves the memory at the end.

        Args:
            names: which; all by default.
        """
        wanted = None if names is None else set(names)
        shards = map_shards(self.folder)
        for meta_name, (name, split_dim) in _names(self.config.num_hidden_layers).items():
            if wanted is not None and name not in wanted:
                continue
            tensor = _join([shard[meta_name] for shard in shards], split_dim)
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                tensor = pairs_to_halves(tensor, head_dim=self.config.head_dim)
            yield name, tensor


def load_meta_llama(
    folder: Path, *, dtype: torch.dtype, device: torch.device | None = None
) -> "LlamaForCausalLM":
    """Load one or several shards as a LlamaForCausalLM, without converting them first.

    Args:
        folder: holds params.json and consolidated.*.pth, all of them.
        dtype: of the model's weights.
        device: where each weight goes as soon as it is read; the CPU by default.

    Raises:
        WeightsError: a file is missing or damaged, or a tensor is missing or has another shape.
    """
    from transformers import LlamaForCausalLM

    checkpoint = MetaCheckpoint.open(folder)
    state = {name: tensor.to(device, dtype) for name, tensor in checkpoint.tensors()}
    placement: dict[str, Any] = {} if device is None else {"device_map": {"": device}}
    llm: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(
        None,
        config=checkpoint.config,
        state_dict=state,
        dtype=dtype,
        attn_implementation="sdpa",
        **placement,
    )
    return llm


def _names(num_layers: int) -> dict[str, tuple[str, int | None]]:
    names = dict(_TOP_NAMES)
    for layer in range(num_layers):
        for meta_name, (name, split_dim) in _LAYER_NAMES.items():
            names[f"layers.{layer}.{meta_name}"] = (f"model.layers.{layer}.{name}", split_dim)
    return names


def _expected_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        llm = LlamaForCausalLM(config)
    return {name: tuple(tensor.shape) for name, tensor in llm.state_dict().items()}


def _findings(
    names: Mapping[str, tuple[str, int | None]],
    expected: Mapping[str, tuple[int, ...]],
    shards: Sequence[Shard],
) -> Iterator[str]:
    for meta_name, (name, split_dim) in names.items():
        parts = [shard[meta_name] for shard in shards if meta_name in shard]
        if len(parts) < len(shards):
            yield f"{meta_name}: missing in {len(shards) - len(parts)} shards"
            continue
        if (shape := _joined_shape(parts, split_dim)) != expected[name]:
            yield f"{meta_name}: shape {shape}, expected {expected[name]}"
    stored = {name for shard in shards for name in shard if not name.endswith(_UNUSED)}
    yield from (f"{name}: not known" for name in sorted(stored - {*names}))


def _config_of(params: MetaParams, shards: Sequence[Shard], folder: Path) -> Any:
    """Return the model's configuration; widths that params.json does not tell are the tensors'."""
    from transformers import LlamaConfig

    try:
        ffn_dim = sum(shard["layers.0.feed_forward.w1.weight"].shape[0] for shard in shards)
        vocab_size = sum(shard["output.weight"].shape[0] for shard in shards)
    except KeyError as error:
        raise WeightsError(f"{folder}: {error.args[0]} is missing. {REMEDY}") from error
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=params.width,
        intermediate_size=ffn_dim,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        num_key_value_heads=params.kv_heads,
        head_dim=params.head_dim,
        rms_norm_eps=params.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": params.rope_theta},
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        dtype=shards[0]["output.weight"].dtype,
    )


def _joined_shape(parts: Sequence[Tensor], split_dim: int | None) -> tuple[int, ...]:
    shape = list(parts[0].shape)
    if split_dim is not None:
        shape[split_dim] = sum(part.shape[split_dim] for part in parts)
    return tuple(shape)


def _join(parts: Sequence[Tensor], split_dim: int | None) -> Tensor:
    if split_dim is None or len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts), dim=split_dim)


def pairs_to_halves(weight: Tensor, *, head_dim: int) -> Tensor:
    """Reorder each head's rows from rotary pairs (2i, 2i + 1) to (i, i + head_dim / 2)."""
    heads = weight.view(-1, head_dim // 2, 2, weight.shape[1])  # (heads, pairs, 2, dim)
    return heads.transpose(1, 2).reshape(weight.shape)
