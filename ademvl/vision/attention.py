"""Self-attention of a vision tower as two linear layers, in place of torch's own module.

torch's `nn.MultiheadAttention` hands its projections a transposed view of a batch; with frozen
weights they then become batched products with the weight repeated for every row, forward and
backward. Formula, parameters and their names are the same here; the order of sums is not.
"""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head self-attention over (B, N, C), without dropout, masks or added keys.

    Args:
        attention: of the same formula; its parameters are taken over.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        self.in_proj_weight = attention.in_proj_weight  # (3 C, C): queries, keys, values
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Return what `nn.MultiheadAttention` returns without weights.

        Args:
            query: (B, N, C).
            key: the same tensor.
            value: the same tensor.
            need_weights: False.
            attn_mask: None.

        Raises:
            ValueError: another use of attention than a vision tower's.
        """
        if need_weights or attn_mask is not None or key is not query or value is not query:
            raise ValueError("a tower's attention is self-attention without mask or weights")
        projected = F.linear(query, self.in_proj_weight, self.in_proj_bias)  # (B, N, 3 C)
        heads = projected.unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, C / heads)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C / heads)
        attended = F.scaled_dot_product_attention(queries, keys, values)
        states: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))  # (B, N, C)
        return states, None


def with_linear_projections(blocks: Iterable[nn.Module]) -> None:
    """Give the blocks of a tower `SelfAttention` where theirs is torch's and computes the same."""
    for block in blocks:
        attention = getattr(block, "attn", None)
        if isinstance(attention, nn.MultiheadAttention) and _is_plain(attention):
            block.attn = SelfAttention(attention).train(attention.training)


def _is_plain(attention: nn.MultiheadAttention) -> bool:
    return (
        attention.batch_first
        and attention.in_proj_weight is not None  # keys and values as wide as queries
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and not attention.dropout
    )
