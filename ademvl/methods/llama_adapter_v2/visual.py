"""What LLaMA-Adapter V2 makes of an image: learned queries that read its tokens in a few blocks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.projection import uninitialized_linear


class VisualBlock(nn.Module):
    """Block of a vision transformer: norm before attention and MLP, biases, exact GELU."""

    def __init__(self, *, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = uninitialized_linear(width, 3 * width)
        self.proj = uninitialized_linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = uninitialized_linear(width, mlp_ratio * width)
        self.fc2 = uninitialized_linear(mlp_ratio * width, width)

    def forward(self, states: Tensor) -> Tensor:
        """Map (B, N, w) to the same shape."""
        states = states + self._attend(self.norm1(states))
        mapped: Tensor = states + self.fc2(F.gelu(self.fc1(self.norm2(states))))
        return mapped

    def _attend(self, states: Tensor) -> Tensor:
        by_heads = self.qkv(states).unflatten(-1, (3, self._heads, -1))  # (B, N, 3, heads, h)
        queries, keys, values = by_heads.permute(2, 0, 3, 1, 4)  # (B, heads, N, h) each
        seen = F.scaled_dot_product_attention(queries, keys, values)
        attended: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return attended


class VisualPrompts(nn.Module):
    """Turns an image's tokens into as many vectors as a layer has prompts.

    Args:
        settings: sizes.
        tower_width: C, of the tokens.
        llm_width: d.
    """

    def __init__(
        self, settings: LlamaAdapterV2Settings, *, tower_width: int, llm_width: int
    ) -> None:
        super().__init__()
        width = settings.visual_width
        self.tower_projection = uninitialized_linear(tower_width, width)
        self.tower_norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.empty(settings.prompt_length, width))
        self.blocks = nn.ModuleList(
            VisualBlock(
                width=width, heads=settings.visual_heads, mlp_ratio=settings.visual_mlp_ratio
            )
            for _ in range(settings.visual_blocks)
        )
        self.projection = uninitialized_linear(width, llm_width)
        self.norm = nn.LayerNorm(llm_width)

    def forward(self, features: Tensor) -> Tensor:
        """Map an image's tokens, (B, N, C), to what it adds to prompts, (B, K, d)."""
        tokens = self.tower_norm(self.tower_projection(features))  # (B, N, w)
        queries = self.queries.to(tokens.dtype).expand(len(tokens), -1, -1)
        states = torch.cat((queries, tokens), dim=1)  # (B, K + N, w)
        for block in self.blocks:
            states = block(states)
        prompts: Tensor = self.norm(self.projection(states[:, : len(self.queries)]))
        return prompts
