"""What LLaMA-Adapter V2 trains of the language model itself: biases and changes of norms.

Both are zero at the start, and added by hooks: the frozen weights stay as they are. The released
code trains the norms' weights. A change that is added to them takes the same steps, as norms have
no weight decay, and an adapter stays apart from its language model.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ademvl.errors import SettingsError
from ademvl.methods.base import DecoderShape
from ademvl.methods.sites import Attachment, decoder_layers

_PARTS = {
    "q_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
"""Matrices with a bias, and where they stand in a layer; keys and values have none."""
_LAYER_NORMS = ("input_layernorm", "post_attention_layernorm")
_FINAL = "final"


def tuned_biases(llm: DecoderShape) -> nn.ModuleDict:
    """Return biases of each layer by its number and their matrix, uninitialised."""
    inner = {"q_proj": llm.heads * llm.head_dim}
    inner |= dict.fromkeys(("gate_proj", "up_proj"), llm.ffn_width)
    sizes = {name: inner.get(name, llm.width) for name in _PARTS}
    return nn.ModuleDict({str(layer): _vectors(sizes) for layer in range(llm.layers)})


def tuned_norms(llm: DecoderShape) -> nn.ModuleDict:
    """Return changes of each layer's norms, by its number, and of the final one, uninitialised."""
    layers = {
        str(layer): _vectors(dict.fromkeys(_LAYER_NORMS, llm.width)) for layer in range(llm.layers)
    }
    return nn.ModuleDict({**layers, _FINAL: _vectors({"norm": llm.width})})


def _vectors(sizes: dict[str, int]) -> nn.ParameterDict:
    return nn.ParameterDict({n: nn.Parameter(torch.empty(size)) for n, size in sizes.items()})


def attach_tuning(
    llm: Any, attachment: Attachment, biases: nn.ModuleDict, norms: nn.ModuleDict
) -> None:
    """Let a language model's matrices add biases, and its norms their changes.

    Args:
        llm: decoder of transformers.
        attachment: gets the hooks.
        biases: as `tuned_biases` gives them.
        norms: as `tuned_norms` gives them.

    Raises:
        SettingsError: a layer has no such parts, or a norm is no RMSNorm.
    """
    hooks = [*_bias_hooks(llm, biases), *_norm_hooks(llm, norms)]
    for module, hook in hooks:
        attachment.on_detach(module.register_forward_hook(hook).remove)


def _bias_hooks(llm: Any, biases: nn.ModuleDict) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
    for number, layer in enumerate(decoder_layers(llm)):
        own: Any = biases[str(number)]
        for name, bias in own.items():
            matrix: Any = getattr(getattr(layer, _PARTS[name]), name, None)
            if getattr(matrix, "out_features", 0) != len(bias):
                part = f"model.layers.{number}.{_PARTS[name]}.{name} of {len(bias)} outputs"
                raise SettingsError(_wrong_layout(llm, part))
            yield matrix, _adding_bias(own, name)


def _norm_hooks(llm: Any, norms: nn.ModuleDict) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
    eps = getattr(llm.config.get_text_config(), "rms_norm_eps", None)
    holders = {str(number): layer for number, layer in enumerate(decoder_layers(llm))}
    for number, holder in {**holders, _FINAL: llm.model}.items():
        own: Any = norms[number]
        for name in own:
            norm = getattr(holder, name, None)
            if norm is None or eps is None:
                raise SettingsError(_wrong_layout(llm, f"RMSNorm {name} in layer {number}"))
            yield norm, _adding_change(own, name, eps)


# Parameters are looked up when they are added: they may have been replaced by others.


def _adding_bias(biases: nn.ParameterDict, name: str) -> Callable[..., Tensor]:
    def add(matrix: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output + biases[name].to(output.dtype)

    return add


def _adding_change(changes: nn.ParameterDict, name: str, eps: float) -> Callable[..., Tensor]:
    """Return a hook that makes of w * x / rms(x) what (w + change) * x / rms(x) is."""

    def add(norm: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        states = args[0].float()
        normalized = F.rms_norm(states, states.shape[-1:], eps=eps)
        return output + (changes[name] * normalized).to(output.dtype)

    return add


def _wrong_layout(llm: Any, missing: str) -> str:
    return (
        f"backbones.llm: {type(llm).__name__} has no {missing}, which method llama_adapter_v2 "
        "trains; use a Llama, Mistral or Qwen"
    )
