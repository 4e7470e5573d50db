"""The two frozen models, with places where a method does something."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Mapping[str, Tensor]


class Method(Protocol):
    """What a method does inside the models; layers and blocks are counted from 0."""

    first_position_is_hidden: bool

    def tower_attention_input(self, block: int, normed: Tensor) -> Tensor:
        """Change what goes into a block's attention, (1 + G, B, C)."""

    def tower_branch(self, block: int, normed: Tensor) -> Tensor | float:
        """Return what is added to a block's output, of the MLP's input (1 + G, B, C)."""

    def attention_input(self, layer: int, normed: Tensor) -> Tensor:
        """Change what goes into a layer's attention, (B, T, d)."""

    def branch(self, layer: int, normed: Tensor, visual: Any) -> Tensor | float:
        """Return what is added to a layer's output, of the MLP's input (B, T, d)."""


class Tower:
    """CLIP's vision transformer.

    Args:
        state: weights, named as in OpenAI's and open_clip's files, without "visual.".
        heads: of attention.
    """

    def __init__(self, state: State, *, heads: int) -> None:
        self.state = state
        blocks = {name.split(".")[2] for name in state if name.startswith("transformer.resblocks.")}
        self.attentions = nn.ModuleList(
            self._attention(f"transformer.resblocks.{block}.attn", heads)
            for block in range(len(blocks))
        ).requires_grad_(False)

    def _attention(self, name: str, heads: int) -> nn.MultiheadAttention:
        width = self.state["ln_post.weight"].shape[0]
        attention = nn.MultiheadAttention(width, heads)
        prefix = f"{name}."
        attention.load_state_dict(
            {key[len(prefix) :]: w for key, w in self.state.items() if key.startswith(prefix)}
        )
        return attention.to(self.state["ln_post.weight"].device)

    def blocks(self, pixels: Tensor, method: Method, *, number: int) -> list[Tensor]:
        """Return the states behind each of the first blocks, (B, 1 + G, C) each."""
        state = self.state
        patch = state["conv1.weight"].shape[-1]
        states = F.conv2d(pixels, state["conv1.weight"], stride=patch).flatten(2).transpose(1, 2)
        first = state["class_embedding"].expand(len(states), 1, -1)
        states = torch.cat([first, states], 1) + state["positional_embedding"]
        states = self.norm(states, "ln_pre").transpose(0, 1)  # tokens first, as CLIP has them
        found = []
        for block in range(number):
            name = f"transformer.resblocks.{block}"
            normed = method.tower_attention_input(block, self.norm(states, f"{name}.ln_1"))
            attention = self.attentions[block]
            states = states + attention(normed, normed, normed, need_weights=False)[0]
            normed = self.norm(states, f"{name}.ln_2")
            hidden = self._linear(normed, f"{name}.mlp.c_fc")
            added = self._linear(hidden * torch.sigmoid(1.702 * hidden), f"{name}.mlp.c_proj")
            states = states + added + method.tower_branch(block, normed)
            found.append(states.transpose(0, 1))
        return found

    def norm(self, states: Tensor, name: str) -> Tensor:
        """Normalise by a named layer."""
        weight = self.state[f"{name}.weight"]
        return F.layer_norm(states, weight.shape, weight, self.state[f"{name}.bias"])

    def _linear(self, states: Tensor, name: str) -> Tensor:
        return F.linear(states, self.state[f"{name}.weight"], self.state[f"{name}.bias"])


class Llama:
    """LLaMA with every projection apart.

    Args:
        state: weights, named as transformers names them.
        heads: of attention; keys and values have as many.
        eps: of the norms.
    """

    def __init__(self, state: State, *, heads: int, eps: float) -> None:
        self.state = state
        self.heads, self.eps = heads, eps
        self.layers = len({name.split(".")[2] for name in state if name.startswith("model.layers")})

    def embed(self, ids: Tensor) -> Tensor:
        """Look tokens up, (B, T) to (B, T, d)."""
        return self.state["model.embed_tokens.weight"][ids]

    def logits(self, states: Tensor, method: Method, visual: Any) -> Tensor:
        """Predict behind every position, (B, T, V) of embeddings (B, T, d)."""
        return self.output(self.decode(states, method, visual))

    def decode(
        self, states: Tensor, method: Method, visual: Any, *, is_token: Tensor | None = None
    ) -> Tensor:
        """Return the normalised last states, (B, T, d); no place sees where `is_token` is false."""
        length = states.shape[1]
        mask = torch.full((length, length), float("-inf"), device=states.device).triu(1)
        if is_token is not None:  # (B, T), padding in front
            mask = mask.masked_fill(~is_token[:, None, None], float("-inf"))
            diagonal = torch.eye(length, dtype=torch.bool, device=states.device)
            mask = mask.masked_fill(diagonal, 0.0)
        if method.first_position_is_hidden:
            mask[1:, 0] = float("-inf")
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            normed = self._norm(states, f"{name}.input_layernorm")
            normed = method.attention_input(layer, normed)
            states = states + self._attend(normed, f"{name}.self_attn", mask)
            normed = self._norm(states, f"{name}.post_attention_layernorm")
            gate, up = (self._linear(normed, f"{name}.mlp.{kind}_proj") for kind in ("gate", "up"))
            fed = self._linear(F.silu(gate) * up, f"{name}.mlp.down_proj")
            states = states + fed + method.branch(layer, normed, visual)
        return self._norm(states, "model.norm")

    def output(self, states: Tensor) -> Tensor:
        """Predict from normalised states."""
        return F.linear(states, self.state["lm_head.weight"])

    def _attend(self, normed: Tensor, name: str, mask: Tensor) -> Tensor:
        queries, keys, values = (
            self._linear(normed, f"{name}.{kind}_proj").unflatten(-1, (self.heads, -1))
            for kind in ("q", "k", "v")
        )
        queries, keys, values = (
            states.transpose(1, 2) for states in (_rotate(queries), _rotate(keys), values)
        )
        scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5 + mask
        attended = torch.softmax(scores.float(), -1).type_as(queries) @ values
        return self._linear(attended.transpose(1, 2).flatten(2), f"{name}.o_proj")

    def _norm(self, states: Tensor, name: str) -> Tensor:
        mean_square = states.float().pow(2).mean(-1, keepdim=True)
        normed = states.float() * torch.rsqrt(mean_square + self.eps)
        return normed.type_as(states) * self.state[f"{name}.weight"]

    def _linear(self, states: Tensor, name: str) -> Tensor:
        return F.linear(states, self.state[f"{name}.weight"])


def _rotate(states: Tensor) -> Tensor:
    """Turn (B, T, H, h) by its positions; halves belong together, as in transformers' weights."""
    half = states.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half, device=states.device) / half)
    positions = torch.arange(states.shape[1], device=states.device)
    angles = torch.outer(positions, frequencies)[:, None]  # (T, 1, h / 2)
    first, second = states.split(half, -1)
    sine, cosine = angles.sin().type_as(states), angles.cos().type_as(states)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
