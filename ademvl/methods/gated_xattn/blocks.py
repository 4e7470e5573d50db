"""The trained modules of gated cross-attention: resampler, and blocks between decoder layers.

Linear maps have no biases, norms are LayerNorms, and the GELU is the exact one. All are
uninitialised but for the norms; `GatedXattnMethod.initialize` sets them.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.methods.projection import uninitialized_linear
from ademvl.randomness import derive_seed

_TORCH_DEFAULT = 5**0.5
"""Slope by which torch's Linear draws its weights."""


class KeysAndValues(NamedTuple):
    """What attention reads of its source.

    Attributes:
        keys: (B, H, N, h).
        values: (B, H, N, h).
    """

    keys: Tensor
    values: Tensor


class CrossAttention(nn.Module):
    """softmax(q k^T / sqrt(h)) v in H heads, then a linear map.

    Args:
        width: of the states that ask.
        source_width: of those that are read.
        heads: H.
        head_width: h.
    """

    def __init__(self, *, width: int, source_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self._heads = heads
        self._scale = head_width**-0.5
        inner = heads * head_width
        self.to_q = uninitialized_linear(width, inner, bias=False)
        self.to_kv = uninitialized_linear(source_width, 2 * inner, bias=False)
        self.to_out = uninitialized_linear(inner, width, bias=False)

    def read(self, source: Tensor) -> KeysAndValues:
        """Return keys and values of (B, N, C); the first half of the map's rows gives keys."""
        keys, values = self.to_kv(source).chunk(2, dim=-1)
        return KeysAndValues(self._split(keys), self._split(values))

    def forward(
        self, states: Tensor, source: KeysAndValues, *, hidden: Tensor | None = None
    ) -> Tensor:
        """Let (B, T, d) attend to a source.

        Args:
            states: normalised.
            source: of the same B rows.
            hidden: which of the source each state does not see, (B, T, N) bool; scores there are
                the lowest finite number, so that a state which sees nothing attends to all alike.

        Returns:
            (B, T, d).
        """
        queries = self._split(self.to_q(states)) * self._scale
        scores = queries @ source.keys.transpose(2, 3)  # (B, H, T, N)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None], torch.finfo(scores.dtype).min)
        attended = scores.softmax(dim=-1).to(source.values.dtype) @ source.values  # (B, H, T, h)
        merged: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return merged

    def _split(self, states: Tensor) -> Tensor:
        """Return (B, H, T, h) of (B, T, H h)."""
        return states.unflatten(-1, (self._heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """down(gelu(up(norm(x)))), (B, T, d) to the same."""

    def __init__(self, *, width: int, ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = uninitialized_linear(width, ratio * width, bias=False)
        self.down = uninitialized_linear(ratio * width, width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Return the branch alone, without the states themselves."""
        branch: Tensor = self.down(F.gelu(self.up(self.norm(states))))
        return branch


class PerceiverLayer(nn.Module):
    """z + attend(ln_l(z), [ln_m(x); ln_l(z)]), then a feed-forward: latents also read each other.

    Args:
        width: of patches and latents.
        heads, head_width: of the attention.
        ratio: of the feed-forward.
    """

    def __init__(self, *, width: int, heads: int, head_width: int, ratio: int) -> None:
        super().__init__()
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.attention = CrossAttention(
            width=width, source_width=width, heads=heads, head_width=head_width
        )
        self.feed_forward = FeedForward(width=width, ratio=ratio)

    def forward(self, latents: Tensor, media: Tensor) -> Tensor:
        """Return the latents (B_img, n, C) after reading media (B_img, N, C)."""
        normed = self.norm_latents(latents)
        source = self.attention.read(torch.cat((self.norm_media(media), normed), dim=1))
        latents = latents + self.attention(normed, source)
        fed: Tensor = latents + self.feed_forward(latents)
        return fed


class PerceiverResampler(nn.Module):
    """Few latents of an image's patches (arXiv 2204.14198, section 2.1); each image on its own.

    Args:
        width: C, of the patches and of the latents.
        num_latents: n.
        layers: how many.
        heads, head_width, ratio: of each layer.
    """

    def __init__(
        self, *, width: int, num_latents: int, layers: int, heads: int, head_width: int, ratio: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(num_latents, width))
        self.layers = nn.ModuleList(
            PerceiverLayer(width=width, heads=heads, head_width=head_width, ratio=ratio)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B_img, n, C) of (B_img, N, C)."""
        latents = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            latents = layer(latents, features)
        normed: Tensor = self.norm(latents)
        return normed


class GatedBlock(nn.Module):
    """Two branches before a decoder layer, each behind a gate (arXiv 2204.14198, section 2.2).

    x + tanh(g_a) attend(ln(x), media), then x + tanh(g_f) feed_forward(x). Computes in fp32, or as
    autocast says.

    Args:
        width: d.
        media_width: C, of the latents.
        heads, head_width: of the attention.
        ratio: of the feed-forward.
    """

    def __init__(
        self, *, width: int, media_width: int, heads: int, head_width: int, ratio: int
    ) -> None:
        super().__init__()
        self.attention_gate = nn.Parameter(torch.empty(1))
        self.feed_forward_gate = nn.Parameter(torch.empty(1))
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CrossAttention(
            width=width, source_width=media_width, heads=heads, head_width=head_width
        )
        self.feed_forward = FeedForward(width=width, ratio=ratio)

    def attend(self, states: Tensor, media: KeysAndValues, hidden: Tensor | None = None) -> Tensor:
        """Return the first branch before its gate, (B, T, d); see `CrossAttention.forward`."""
        attended: Tensor = self.attention(self.attention_norm(states), media, hidden=hidden)
        return attended

    def forward(
        self, states: Tensor, media: KeysAndValues | None, *, hidden: Tensor | None = None
    ) -> Tensor:
        """Return the decoder layer's input.

        Args:
            states: (B, T, d).
            media: of the B rows; None where none of them has any, for the second branch alone.
            hidden: which of the media each state does not see, (B, T, N) bool.

        Returns:
            Same shape and dtype as `states`.
        """
        summed = states.float()
        if media is not None:
            summed = summed + self.attention_gate.tanh() * self.attend(summed, media, hidden)
        summed = summed + self.feed_forward_gate.tanh() * self.feed_forward(summed)
        return summed.to(states.dtype)


@torch.no_grad()
def set_initial_values(module: nn.Module, seed: int) -> None:
    """Draw a module's tensors anew; each depends on `seed` and its own name only.

    Gates 0, latents N(0, 1), norms 1 and 0, linear maps torch's default.
    """
    for name, parameter in module.named_parameters():
        generator = torch.Generator().manual_seed(derive_seed(seed, "gated_xattn", name))
        values = torch.zeros(parameter.shape)
        if name.endswith("latents"):
            values.normal_(generator=generator)
        elif parameter.ndim == 2:
            nn.init.kaiming_uniform_(values, a=_TORCH_DEFAULT, generator=generator)
        elif name.endswith("weight"):
            values.fill_(1.0)  # of a norm
        parameter.copy_(values)
