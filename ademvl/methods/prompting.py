"""Learned prompts that the text of the upper layers attends to beside itself, let in by gates.

LLaMA-Adapter and LLaMA-Adapter V2 are of this kind; what an image adds to the prompts is theirs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.methods.base import DecoderShape, Method
from ademvl.methods.projection import draw_linear
from ademvl.methods.sites import Attachment, Pass, decoder_layers
from ademvl.randomness import derive_seed
from ademvl.vision.tower import VisionTower


class PromptedMethod(Method):
    """A method with prompts for the layers from some layer on, and a gate for each head.

    In such a layer, P being its prompts with what the image adds, and wk, wv, wo its frozen maps:
    wo(softmax(q k^T) v + tanh(g) softmax(q (P wk)^T) (P wv)), with scores scaled as the layer's
    own. Prompts pass through no norm but that of keys, where a layer has one, and have no position;
    all of the text sees all of them.

    Attributes:
        prompts: K of each layer with prompts, layer by layer, (layers * K, d).
        gates: by the layer's number, (1, H, 1, 1) each.
    """

    prompts: nn.Parameter
    gates: nn.ParameterDict
    _prompted = range(0)

    def add_prompts(self, *, length: int, first_layer: int, first_gate: int) -> None:
        """Create prompts and gates.

        Args:
            length: K.
            first_layer: that has prompts, counted from 0.
            first_gate: first layer that has gates; before `first_layer` they are never used.

        Raises:
            SettingsError: the language model has no such layer.
        """
        shape = self.llm_shape
        self._prompted = range(first_layer, shape.layers)
        if not self._prompted:
            raise SettingsError(
                f"method.first_layer: {first_layer}, expected less than the {shape.layers} layers "
                "of the language model"
            )
        self.prompts = nn.Parameter(torch.empty(len(self._prompted) * length, shape.width))
        self.gates = nn.ParameterDict(
            {
                str(layer): nn.Parameter(torch.empty(1, shape.heads, 1, 1))
                for layer in range(first_gate, shape.layers)
            }
        )

    def attending_layers(self) -> range:
        """Return the layers with prompts."""
        return self._prompted

    def attach(self, llm: Any, tower: VisionTower | None) -> Attachment:
        """Hook the method into the frozen models, whose keys and values prompts are mapped by.

        Raises:
            SettingsError: see `Method.attach`; or a layer maps to keys and values at once.
        """
        for layer in self._prompted:
            attention = decoder_layers(llm)[layer].self_attn
            if not (hasattr(attention, "k_proj") and hasattr(attention, "v_proj")):
                raise SettingsError(
                    f"backbones.llm: {type(llm).__name__} has no k_proj and v_proj in layer "
                    f"{layer}, by which method {self.settings.name} maps its prompts; use a Llama, "
                    "Mistral, Qwen or Gemma"
                )
        return super().attach(llm, tower)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Set all tensors as the released code does.

        Linear maps by torch's default, norms 1 and 0, prompts and queries N(0, 1), all else 0: the
        model starts as the bare one.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                draw_linear(module, seed, name)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            else:
                for part, parameter in module.named_parameters(recurse=False):
                    if part in ("prompts", "queries"):
                        own_seed = derive_seed(seed, name, part)
                        generator = torch.Generator().manual_seed(own_seed)
                        drawn = torch.empty(parameter.shape).normal_(generator=generator)
                        parameter.copy_(drawn)
                    else:
                        parameter.zero_()

    def unused(self) -> frozenset[str]:
        """Return gates of layers that have no prompts."""
        names = (name for name, _ in self.named_parameters() if name.startswith("gates."))
        return frozenset(n for n in names if int(n.rpartition(".")[2]) not in self._prompted)


class PromptPass(Pass):
    """Lets text attend to a method's prompts.

    Args:
        method: has prompts and gates.
        image: what each row's image adds to the prompts of every layer, (B, 1 or K, d); None adds
            nothing.
    """

    def __init__(self, method: PromptedMethod, image: Tensor | None) -> None:
        self._method = method
        self.image = image

    def attend(self, layer: int, attention: Any, query: Tensor) -> Tensor | None:
        """Return what the text of a layer sees in the prompts, let in by the gates."""
        method, shape = self._method, self._method.llm_shape
        layers = method.attending_layers()
        all_prompts = method.prompts.unflatten(0, (len(layers), -1))  # (layers, K, d)
        prompts = all_prompts[layer - layers.start][None]  # (1, K, d)
        if self.image is not None:
            prompts = prompts + self.image  # (B, K, d)
        prompts = prompts.to(query.dtype)
        keys, values = _keys_and_values(attention, prompts, shape)  # (1 or B, H, K, h)
        keys, values = (part.expand(len(query), -1, -1, -1) for part in (keys, values))
        seen = F.scaled_dot_product_attention(query, keys, values, scale=attention.scaling)
        gate = method.gates[str(layer)].tanh().to(seen.dtype)
        return (gate * seen).transpose(1, 2)  # (B, T, H, h)

    def repeated(self, times: int) -> "PromptPass":
        """Repeat what each row's image adds side by side."""
        if times == 1 or self.image is None:
            return self
        return PromptPass(self._method, self.image.repeat_interleave(times, dim=0))


def _keys_and_values(attention: Any, prompts: Tensor, shape: DecoderShape) -> tuple[Tensor, Tensor]:
    """Map prompts (B, K, d) by a layer's frozen maps to (B, H, K, h), without rotary embedding.

    Keys go through the layer's norm of keys where it has one: of each head in Qwen 3 and Gemma 3,
    of all heads together in OLMo 2 and 3.
    """
    keys, values = attention.k_proj(prompts), attention.v_proj(prompts)  # (B, K, H_kv * h)
    norms = (getattr(attention, name, None) for name in ("k_norm", "k_layernorm"))
    norm = next((norm for norm in norms if norm is not None), None)
    is_of_all = norm is not None and norm.weight.numel() == keys.shape[-1]
    if norm is not None and is_of_all:
        keys = norm(keys)
    keys, values = (part.unflatten(-1, (shape.kv_heads, -1)) for part in (keys, values))
    if norm is not None and not is_of_all:
        keys = norm(keys)
    times = shape.heads // shape.kv_heads
    keys, values = (part.transpose(1, 2) for part in (keys, values))  # (B, H_kv, K, h)
    return keys.repeat_interleave(times, dim=1), values.repeat_interleave(times, dim=1)
