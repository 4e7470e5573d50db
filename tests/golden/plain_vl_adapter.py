"""VL-Adapter's own parts once more in plain torch, as it sits in a BART encoder's first layer.

It shares no code with the package, and writes cases in the format of the golden ones with other
sizes, and another task's name.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.golden.plain_program import PlainProgram, save_case

WIDTH, REDUCTION, INNER, VOCABULARY, LAYERS, TASK = 30, 5, 50, 70, 3, "gqa"
FEATURES, SIDE, BOXES = 9, 5, 4
Weights = dict[str, Tensor]


def _linear(program: PlainProgram, name: str, outputs: int, inputs: int) -> Weights:
    weight = program.random(outputs, inputs, std=inputs**-0.5)
    return {f"{name}.weight": weight, f"{name}.bias": program.random(outputs, std=0.3)}


def _norm(program: PlainProgram, name: str, width: int = WIDTH) -> Weights:
    weight, bias = 1 + program.random(width, std=0.2), program.random(width, std=0.2)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _adapter(program: PlainProgram, name: str) -> Weights:
    down = _linear(program, f"{name}.adapters.{TASK}.down_sampler", WIDTH // REDUCTION, WIDTH)
    return down | _linear(program, f"{name}.adapters.{TASK}.up_sampler", WIDTH, WIDTH // REDUCTION)


def _map(states: Tensor, name: str, weights: Weights) -> Tensor:
    return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _normed(states: Tensor, name: str, weights: Weights) -> Tensor:
    centred = states - states.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _branch(states: Tensor, name: str, weights: Weights) -> Tensor:
    inner = _map(states, f"{name}adapters.{TASK}.down_sampler", weights)
    cubic = (2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)
    inner = 0.5 * inner * (1 + cubic.tanh())
    return _map(inner, f"{name}adapters.{TASK}.up_sampler", weights)


def _largest(grid: Tensor) -> Tensor:
    """Pool (B, 5 x 5, C) to 2 x 2: cells of three rows and columns that share the middle ones."""
    image = grid.unflatten(1, (SIDE, SIDE))
    cells = [image[:, r : r + 3, c : c + 3].amax(dim=(1, 2)) for r in (0, 2) for c in (0, 2)]
    return torch.stack(cells, dim=1)


def write_vl_adapter(program: PlainProgram, folder: Path) -> None:
    """Write cases A and B."""
    _write_encoder(program, folder)
    _write_alone(program, folder)


def _write_encoder(program: PlainProgram, folder: Path) -> None:
    visual = "model.encoder.visual_embedding."
    weights = {
        "model.shared.weight": program.random(VOCABULARY, WIDTH),
        "model.encoder.embed_positions.weight": program.random(2 + 20, WIDTH),
        **_norm(program, "model.encoder.layernorm_embedding"),
        **_linear(program, f"{visual}feat_embedding.0", WIDTH, FEATURES),
        **_norm(program, f"{visual}feat_embedding.1"),
        **_linear(program, f"{visual}absolute_vis_pos_embedding.0", WIDTH, 5),
        **_norm(program, f"{visual}absolute_vis_pos_embedding.1"),
        f"{visual}img_order_embedding.weight": program.random(2, WIDTH),
    }
    for layer in range(LAYERS):
        name = f"model.encoder.layers.{layer}"
        weights |= _linear(program, f"{name}.fc1", INNER, WIDTH)
        weights |= _linear(program, f"{name}.fc2", WIDTH, INNER)
        weights |= _norm(program, f"{name}.self_attn_layer_norm")
        weights |= _norm(program, f"{name}.final_layer_norm")
        weights |= _adapter(program, f"{name}.attn_adapter")
        weights |= _adapter(program, f"{name}.ff_adapter")
    ids, features = (
        torch.tensor([[4, 9, 66, 2], [7, 1, 0, 0]]),
        program.random(2, SIDE**2, FEATURES),
    )
    tokens = _normed(
        _map(_largest(features), f"{visual}feat_embedding.0", weights),
        f"{visual}feat_embedding.1",
        weights,
    )
    no_box = weights[f"{visual}absolute_vis_pos_embedding.0.bias"]
    tokens = tokens + _normed(no_box, f"{visual}absolute_vis_pos_embedding.1", weights)
    tokens = tokens + weights[f"{visual}img_order_embedding.weight"][0]
    words = weights["model.shared.weight"]
    tokens = tokens + torch.stack([words[VOCABULARY - 1 - place] for place in range(BOXES)])
    positions = weights["model.encoder.embed_positions.weight"][2 : 2 + 4]
    text = _normed(words[ids] + positions, "model.encoder.layernorm_embedding", weights)
    first = "model.encoder.layers.0."
    attended = program.random(2, 4 + BOXES, WIDTH)
    adapted = attended + _branch(attended, f"{first}attn_adapter.", weights)
    summed = torch.cat((text, tokens), dim=1) + adapted
    states = _normed(summed, f"{first}self_attn_layer_norm", weights)
    fed = _map(F.gelu(_map(states, f"{first}fc1", weights)), f"{first}fc2", weights)
    fed = fed + _branch(fed, f"{first}ff_adapter.", weights)
    tensors = {
        "input_ids": ids,
        "vis_feats": features,
        "visual_tokens": tokens,
        "enc0_attn_adapter_in": attended,
        "enc0_attn_adapter": adapted,
        "enc0_ff_adapter": fed,
        "enc0_out": _normed(states + fed, f"{first}final_layer_norm", weights),
        "logits": program.random(2, 3, VOCABULARY),  # of the decoder, which nothing compares
        **{f"param.{name}": weight for name, weight in weights.items()},
    }
    new = {
        name: 0.02 * program.random(*weight.shape)
        if weight.ndim == 2
        else torch.full(weight.shape, float(_is_norm_weight(name)))
        for name, weight in weights.items()
    }
    details = {
        "settings": {
            "reduction_factor": REDUCTION,
            "n_boxes": BOXES,
            "grid": SIDE**2,
            "feat_dim": FEATURES,
            "d_model": WIDTH,
        },
        "init": {
            name: {
                "shape": list(values.shape),
                "zero": not values.any(),
                "std": float(values.std()),
            }
            for name, values in new.items()
        },
        "suggested_absolute_tolerance": {"intermediate": 2e-5},
    }
    _write(folder, "A_vlbart", tensors, details)


def _is_norm_weight(name: str) -> bool:
    return name.endswith(".weight") and ("norm" in name or "embedding.1" in name)


def _write_alone(program: PlainProgram, folder: Path) -> None:
    weights = {**_adapter(program, "x"), **_norm(program, "pre_layer_norm")}
    weights = {name.removeprefix("x."): weight.requires_grad_() for name, weight in weights.items()}
    states = program.random(3, 4, WIDTH).requires_grad_()
    output = states + _branch(_normed(states, "pre_layer_norm", weights), "", weights)
    grad_out = program.random(3, 4, WIDTH)
    output.backward(grad_out)
    tensors = {
        **{"x": states, "out": output, "grad_out": grad_out, "grad_x": states.grad},
        **{f"param.{name}": weight for name, weight in weights.items()},
        **{f"grad.{name}": weight.grad for name, weight in weights.items()},
    }
    details = {
        "settings": {"layer_norm_before": True, "layer_norm_after": False},
        "suggested_absolute_tolerance": {"output": 2e-5},
    }
    _write(folder, "B_adapter_with_norms", tensors, details)


def _write(folder: Path, name: str, tensors: Weights, details: dict) -> None:
    listed = {each: [list(tensor.shape)] for each, tensor in tensors.items()}
    save_case(folder / name, tensors, {**details, "tensors": listed})
