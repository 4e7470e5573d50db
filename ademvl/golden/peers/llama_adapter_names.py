"""Names and forms of LLaMA-Adapter's and V2's trained tensors in their released code, and ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ademvl.llm.meta_format import pairs_to_halves

_RENAMED = (
    (r"prompts", "adapter_query.weight"),
    (r"image_projection\.down\.", "visual_proj.0."),
    (r"image_projection\.up\.", "visual_proj.2."),
    (r"gates\.(\d+)", r"layers.\1.attention.gate"),
    (r"visual\.queries", "visual_query.weight"),
    (r"visual\.tower_projection\.", "clip_proj."),
    (r"visual\.tower_norm\.", "clip_proj_norm."),
    (r"visual\.projection\.", "visual_proj."),
    (r"visual\.norm\.", "visual_proj_norm."),
    (r"visual\.blocks\.(\d+)\.(qkv|proj)\.", r"visual_blocks.\1.attn.\2."),
    (r"visual\.blocks\.(\d+)\.(fc[12])\.", r"visual_blocks.\1.mlp.\2."),
    (r"visual\.blocks\.(\d+)\.(norm[12])\.", r"visual_blocks.\1.\2."),
    (r"biases\.(\d+)\.q_proj", r"layers.\1.attention.wq.bias"),
    (r"biases\.(\d+)\.o_proj", r"layers.\1.attention.wo.bias"),
    (r"biases\.(\d+)\.gate_proj", r"layers.\1.feed_forward.w1.bias"),
    (r"biases\.(\d+)\.down_proj", r"layers.\1.feed_forward.w2.bias"),
    (r"biases\.(\d+)\.up_proj", r"layers.\1.feed_forward.w3.bias"),
    (r"norms\.(\d+)\.input_layernorm", r"layers.\1.attention_norm.weight"),
    (r"norms\.(\d+)\.post_attention_layernorm", r"layers.\1.ffn_norm.weight"),
    (r"norms\.final\.norm", "norm.weight"),
)
"""Pattern of our names, and what stands in place of it in theirs."""
_OF_LLAMA = ("layers.", "norm.")  # theirs, which multimodal models put `llama.` before


@dataclass(frozen=True)
class ReleasedNames:
    """Both ways between our tensors and those of the released code.

    Attributes:
        prefix: before names of tensors of the language model: `llama.` in multimodal models.
        head_dim: h; within each head a query's bias is in Meta's order there, and in transformers'
            here.
    """

    prefix: str
    head_dim: int

    def name(self, ours: str) -> str:
        """Return the released name of a tensor."""
        for pattern, theirs in _RENAMED:
            renamed, number = re.subn(f"^{pattern}", theirs, ours)
            if number:
                return self.prefix * renamed.startswith(_OF_LLAMA) + renamed
        return ours

    def to_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename tensors, or gradients, as the released code does."""
        return {
            self.name(ours): self._halves_to_pairs(tensor) if _is_rotated(ours) else tensor
            for ours, tensor in state.items()
        }

    def to_ours(self, ours: str, released: Tensor) -> Tensor:
        """Return the tensor that has one of our names, of the one with the released name."""
        if not _is_rotated(ours):
            return released
        return pairs_to_halves(released[:, None], head_dim=self.head_dim)[:, 0]

    def _halves_to_pairs(self, bias: Tensor) -> Tensor:
        by_heads = bias.unflatten(0, (-1, 2, self.head_dim // 2))  # (heads, 2, pairs)
        return by_heads.transpose(1, 2).flatten()


def _is_rotated(ours: str) -> bool:
    return ours.endswith("q_proj")
