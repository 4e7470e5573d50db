"""Records what a forward pass goes through, by the names of the golden files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ademvl.data.collate import Batch
from ademvl.methods.sites import Pass, decoder_layers
from ademvl.model.vision_language import VisionLanguageModel


@torch.no_grad()
def record_states(
    model: VisionLanguageModel, batch: Batch, pixels: Tensor | None
) -> tuple[dict[str, Tensor], Pass]:
    """Run a batch through the model.

    Returns:
        `inputs_embeds`, `logits` of all places, `mlp_in_<k>` (layers counted from 0: what the MLP
        gets), `attn_before_wo_<k>` (what the last map of its attention gets) and `layer_out_<k>`
        (counted from 1: before the final norm); and the batch's pass.
    """
    states: dict[str, Tensor] = {}
    with recorded_layers(model.llm, states), model.opened(pixels, batch.has_image) as opened:
        states["inputs_embeds"] = model.embed(batch.input_ids, batch.slot_start, opened.with_image)
        hidden_states, _ = model.decode(states["inputs_embeds"])
    states["logits"] = model.llm.get_output_embeddings()(hidden_states)
    return states, opened


@contextmanager
def recorded_layers(llm: nn.Module, states: dict[str, Tensor]) -> Iterator[None]:
    """Open a block in which `mlp_in_<k>` and `layer_out_<k>` are kept; see `record_states`."""

    def keep_output(name: str) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            states[name] = output[0] if isinstance(output, tuple) else output

        return keep

    def keep_input(name: str) -> Any:
        def keep(module: nn.Module, args: tuple[Tensor]) -> None:
            states[name] = args[0]

        return keep

    hooks = []
    layer: Any
    for number, layer in enumerate(decoder_layers(llm)):
        hooks.append(layer.mlp.register_forward_pre_hook(keep_input(f"mlp_in_{number}")))
        last = layer.self_attn.o_proj
        hooks.append(last.register_forward_pre_hook(keep_input(f"attn_before_wo_{number}")))
        hooks.append(layer.register_forward_hook(keep_output(f"layer_out_{number + 1}")))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
