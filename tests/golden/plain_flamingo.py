"""Gated cross-attention once more, token by token in plain torch, with OpenFlamingo's names.

It shares no code with the package, and writes cases in the format of the golden ones with other
sizes: so parity is tested where those are absent, and nothing can be tuned to their sizes.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.golden.plain_program import (
    BLOCKS,
    IMAGE,
    LAYERS,
    TOWER_WIDTH,
    VOCABULARY,
    WIDTH,
    PlainProgram,
    rms_norm,
    save_case,
)

HEADS, HEAD, RATIO = 3, 5, 3
LATENTS, DEPTH, PERCEIVER_HEADS, PERCEIVER_HEAD, PERCEIVER_RATIO = 5, 2, 2, 6, 2
END, IMAGE_TOKEN, PAD = VOCABULARY, VOCABULARY + 1, VOCABULARY + 2
PERCEIVER = {
    "depth": DEPTH,
    "dim_head": PERCEIVER_HEAD,
    "heads": PERCEIVER_HEADS,
    "num_latents": LATENTS,
    "ff_mult": PERCEIVER_RATIO,
}
BLOCK = {"dim_head": HEAD, "heads": HEADS, "ff_mult": RATIO}
TOLERANCES = {"output": 2e-5, "intermediate": 1e-4, "loss": 1e-5, "logits": 1e-4}
ROWS = [
    [1, IMAGE_TOKEN, 5, 9, 11, IMAGE_TOKEN, 20, 21, IMAGE_TOKEN, 7, END, 2],
    [1, 8, 13, IMAGE_TOKEN, 40, END, 2],
    [1, 33, 34, END, 2],
]
PICTURES = [[2, 0, 1], [1, -1, -1], [-1, -1, 2]]
Weights = dict[str, Tensor]


def _map(program: PlainProgram, outputs: int, inputs: int) -> Tensor:
    return program.random(outputs, inputs, std=inputs**-0.5)


def _attention_weights(program: PlainProgram, width: int, source: int, inner: int) -> Weights:
    return {
        "to_q.weight": _map(program, inner, width),
        "to_kv.weight": _map(program, 2 * inner, source),
        "to_out.weight": _map(program, width, inner),
    }


def _norm_weights(program: PlainProgram, name: str, width: int) -> Weights:
    weight, bias = 1 + program.random(width, std=0.2), program.random(width, std=0.2)
    return {f"{name}.weight": weight, f"{name}.bias": bias}


def _feed_forward_weights(program: PlainProgram, width: int, ratio: int) -> Weights:
    return {
        **_norm_weights(program, "0", width),
        "1.weight": _map(program, ratio * width, width),
        "3.weight": _map(program, width, ratio * width),
    }


def _under(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


def _of(prefix: str, weights: Weights) -> Weights:
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}


def resampler_weights(program: PlainProgram, width: int) -> Weights:
    weights = {"latents": program.random(LATENTS, width), **_norm_weights(program, "norm", width)}
    for layer in range(DEPTH):
        attention = {
            **_norm_weights(program, "norm_media", width),
            **_norm_weights(program, "norm_latents", width),
            **_attention_weights(program, width, width, PERCEIVER_HEADS * PERCEIVER_HEAD),
        }
        fed = _feed_forward_weights(program, width, PERCEIVER_RATIO)
        weights |= _under(f"layers.{layer}.0.", attention) | _under(f"layers.{layer}.1.", fed)
    return weights


def block_weights(program: PlainProgram) -> Weights:
    attention = {
        **_norm_weights(program, "norm", WIDTH),
        **_attention_weights(program, WIDTH, TOWER_WIDTH, HEADS * HEAD),
    }
    fed = _feed_forward_weights(program, WIDTH, RATIO)
    gates = {"attn_gate": program.random(1), "ff_gate": program.random(1)}
    return {**gates, **_under("attn.", attention), **_under("ff.", fed)}


def _layer_norm(states: Tensor, name: str, weights: Weights) -> Tensor:
    return F.layer_norm(
        states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"]
    )


def _read(query: Tensor, source: Tensor, weights: Weights, heads: int) -> Tensor:
    """Return what one vector (d,) reads of the vectors (N, C)."""
    q = weights["to_q.weight"] @ query
    k, v = (source @ weights["to_kv.weight"].T).chunk(2, dim=1)
    parts = []
    for q_h, k_h, v_h in zip(*(part.chunk(heads, dim=-1) for part in (q, k, v)), strict=True):
        parts.append(torch.softmax(k_h @ q_h / len(q_h) ** 0.5, dim=0) @ v_h)
    return weights["to_out.weight"] @ torch.cat(parts)


def _feed(states: Tensor, weights: Weights) -> Tensor:
    inner = F.gelu(_layer_norm(states, "0", weights) @ weights["1.weight"].T)
    return inner @ weights["3.weight"].T


def resample(features: Tensor, weights: Weights) -> Tensor:
    """Return the latents (n, C) of one image's patches (N, C)."""
    latents = weights["latents"]
    for layer in range(DEPTH):
        attention = _of(f"layers.{layer}.0.", weights)
        asked = _layer_norm(latents, "norm_latents", attention)
        source = torch.cat((_layer_norm(features, "norm_media", attention), asked))
        read = [_read(query, source, attention, PERCEIVER_HEADS) for query in asked]
        latents = latents + torch.stack(read)
        latents = latents + _feed(latents, _of(f"layers.{layer}.1.", weights))
    return _layer_norm(latents, "norm", weights)


def attend_media(
    states: Tensor, media: Tensor, numbers: list[int], weights: Weights, *, sees_all: bool
) -> Tensor:
    """Return the attention branch of one row, (T, d), before its gate.

    Args:
        states: (T, d).
        media: (images, n, C).
        numbers: of the image, from 1, that was marked last before each token; 0 for none.
        weights: of a block.
        sees_all: previous images too; tokens without any then weigh all of them alike.
    """
    attention, rows = _of("attn.", weights), []
    for token, number in zip(_layer_norm(states, "norm", attention), numbers, strict=True):
        if sees_all and not number:
            _, values = (media.flatten(0, 1) @ attention["to_kv.weight"].T).chunk(2, dim=1)
            rows.append(attention["to_out.weight"] @ values.mean(dim=0))
        elif not number:
            rows.append(torch.zeros_like(token))
        else:
            source = media[:number].flatten(0, 1) if sees_all else media[number - 1]
            rows.append(_read(token, source, attention, HEADS))
    return torch.stack(rows)


def gate(states: Tensor, branch: Tensor, weights: Weights) -> Tensor:
    states = states + torch.tanh(weights["attn_gate"]) * branch
    return states + torch.tanh(weights["ff_gate"]) * _feed(states, _of("ff.", weights))


def _leaves(weights: Weights) -> Weights:
    return {name: weight.clone().requires_grad_() for name, weight in weights.items()}


def _norms(gradients: Weights) -> dict[str, float]:
    return {name: float(gradient.norm()) for name, gradient in gradients.items()}


def _init(shapes: Weights) -> dict[str, dict]:
    """Say what each tensor is like when it is new, from torch's own layers."""
    recorded = {}
    for name, tensor in shapes.items():
        values = torch.zeros(tensor.shape)
        if name.endswith("latents"):
            values.normal_()
        elif tensor.ndim == 2:
            values = torch.nn.Linear(tensor.shape[1], tensor.shape[0]).weight.detach()
        elif name.endswith("weight"):
            values.fill_(1)
        zero = not values.any()
        std = 0.0 if zero else float(values.std())
        recorded[name] = {"shape": list(tensor.shape), "zero": zero, "std": std}
    return recorded


def write_flamingo(program: PlainProgram, folder: Path) -> None:
    """Write cases A, B and C."""
    _write_resampler(program, folder)
    _write_block(program, folder)
    _write_model(program, folder)


def _write(folder: Path, name: str, tensors: Weights, details: dict, gradients: float) -> None:
    tolerances = {**TOLERANCES, "gradients": gradients}
    listed = {name: [list(tensor.shape)] for name, tensor in tensors.items()}
    details |= {"suggested_absolute_tolerance": tolerances, "tensors": listed}
    save_case(folder / name, tensors, details)


def _write_resampler(program: PlainProgram, folder: Path) -> None:
    width = 24
    weights = _leaves(resampler_weights(program, width))
    images = program.random(2, 3, 1, 7, width).requires_grad_()
    output = torch.stack(
        [torch.stack([resample(image[0], weights) for image in row]) for row in images]
    )
    grad_out = program.random(*output.shape)
    output.backward(grad_out)
    gradients = {name: weight.grad for name, weight in weights.items()}
    few = {name: gradients[name] for name in ("latents", "layers.1.0.to_kv.weight")}
    tensors = {
        **{"x": images, "out": output, "grad_out": grad_out, "grad.x": images.grad},
        **_under("param.", weights),
        **_under("grad.", few),
    }
    details = {"settings": {"dim": width, **PERCEIVER}, "grad_norms": _norms(gradients)}
    details["init"] = _init(resampler_weights(program, 2 * width))
    _write(folder, "A_perceiver", tensors, details, 1e-4)


def _write_block(program: PlainProgram, folder: Path) -> None:
    weights = block_weights(program)
    marked = torch.tensor([[0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.uint8)
    inputs = {"x": program.random(2, 6, WIDTH), "media": program.random(2, 2, LATENTS, TOWER_WIDTH)}
    grad_out = program.random(2, 6, WIDTH)
    tensors = {**inputs, **_under("param.", weights), "media_locations": marked}
    tensors["grad_out"] = grad_out
    numbers, norms = marked.long().cumsum(dim=1).tolist(), {}
    for mode in ("immediate", "all_previous", "cached"):
        leaves, given = _leaves(weights), _leaves(inputs)
        branch = torch.stack(
            [
                attend_media(
                    given["x"][row],
                    given["media"][row],
                    numbers[row][-1:] * 6 if mode == "cached" else numbers[row],
                    leaves,
                    sees_all=mode == "all_previous",
                )
                for row in range(2)
            ]
        )
        output = gate(given["x"], branch, leaves)
        output.backward(grad_out)
        gradients = {name: leaf.grad for name, leaf in leaves.items()}
        norms[mode] = _norms(gradients)
        tensors |= {
            f"{mode}.attn_branch": branch,
            f"{mode}.out": output,
            f"{mode}.grad.attn.to_q.weight": gradients["attn.to_q.weight"],
            f"{mode}.grad_x": given["x"].grad,
            f"{mode}.grad_media": given["media"].grad,
        }
    settings = {"dim": WIDTH, "dim_visual": TOWER_WIDTH, **BLOCK}
    details = {"settings": settings, "grad_norms": norms, "init": _init(weights)}
    _write(folder, "B_gated_block", tensors, details, 1e-4)


class _Marked:
    """The language model of the plain program with new tokens, and blocks before its layers."""

    def __init__(self, program: PlainProgram, weights: Weights, new: Weights) -> None:
        self.program, self.weights, self.new = program, weights, new

    def media(self, pictures: list[int]) -> Tensor:
        zero = torch.zeros(3, IMAGE, IMAGE)
        pixels = [self.program.pixels[p].float() if p >= 0 else zero for p in pictures]
        grids = self.program.blocks(torch.stack(pixels), number=BLOCKS)[:, 1:]
        return torch.stack([resample(grid, _of("perceiver.", self.weights)) for grid in grids])

    def run(
        self, ids: list[int], media: Tensor, layers: tuple[int, ...] = tuple(range(LAYERS))
    ) -> dict[str, Tensor]:
        """Return what one row, without padding, goes through: each (T, ...)."""
        table = torch.cat((self.program.llm["tok_embeddings.weight"], self.new["inputs"]))
        states, numbers = table[ids], [ids[: t + 1].count(IMAGE_TOKEN) for t in range(len(ids))]
        found = {}
        for layer in range(LAYERS):
            if layer in layers:
                block = _of(f"gated_cross_attn_layers.{layer}.", self.weights)
                branch = attend_media(states, media, numbers, block, sees_all=False)
                states = gate(states, branch, block)
                found |= {f"attn_branch_{layer}": branch, f"gated_out_{layer}": states}
            states = self.program.layer(states[None], layer)[0]
            found[f"layer_out_{layer + 1}"] = states
        final = rms_norm(states, self.program.llm["norm.weight"])
        outputs = torch.cat((self.program.llm["output.weight"], self.new["outputs"]))
        return {**found, "logits": final @ outputs.T}


def _loss(model: _Marked, layers: tuple[int, ...] = tuple(range(LAYERS))) -> Tensor:
    losses = []
    for ids, pictures in zip(ROWS, PICTURES, strict=True):
        logits = model.run(ids, model.media(pictures), layers)["logits"]
        targets = torch.tensor([-100 if token == IMAGE_TOKEN else token for token in ids])
        losses.append(F.cross_entropy(logits[:-1], targets[1:], reduction="none"))
    scored = [token != IMAGE_TOKEN for ids in ROWS for token in ids[1:]]
    return torch.cat(losses)[scored].mean()


def _padded(rows: list[Tensor], value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def _write_model(program: PlainProgram, folder: Path) -> None:
    weights = _under("perceiver.", resampler_weights(program, TOWER_WIDTH))
    for layer in range(LAYERS):
        weights |= _under(f"gated_cross_attn_layers.{layer}.", block_weights(program))
    new = {name: program.random(3, WIDTH) for name in ("inputs", "outputs")}
    model = _Marked(program, _leaves(weights), {**new, "inputs": new["inputs"].requires_grad_()})
    loss = _loss(model)
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in model.weights.items()}
    plain = _Marked(program, weights, {name: tensor.detach() for name, tensor in new.items()})
    media = [plain.media(pictures) for pictures in PICTURES]
    found = [plain.run(ids, each) for ids, each in zip(ROWS, media, strict=True)]
    ids = [torch.tensor(row) for row in ROWS]
    positions = torch.tensor([0, 3, 11])
    tensors = {
        "input_ids": _padded(ids, PAD),
        "attention_mask": _padded([torch.ones_like(row) for row in ids], 0),
        "labels": _padded([row.where(row != IMAGE_TOKEN, torch.tensor(-100)) for row in ids], -100),
        "pixel_index": torch.tensor(PICTURES),
        "new_input_embeddings": new["inputs"],
        "new_output_embeddings": new["outputs"],
        "grad.new_input_embeddings": model.new["inputs"].grad[:2],
        "latents": torch.stack(media),
        "logit_positions": positions,
        **_under("param.", weights),
        **_under("grad.", {"perceiver.latents": gradients["perceiver.latents"]}),
    }
    for name in found[0]:
        padded = _padded([row[name] for row in found], 7.0)
        tensors[name] = padded[:, positions] if name == "logits" else padded
    zeroed = {}
    for word in ("ff_gate", "perceiver.latents"):
        changed = {n: torch.zeros_like(w) if word in n else w for n, w in weights.items()}
        other = _loss(_Marked(program, changed, plain.new))
        zeroed[word] = abs(float(other - loss.detach()))
    answer, logits = _continue(plain, ROWS[0][:8], media[0], steps=4)
    tensors["generate.longer.logits_without_cache"] = logits
    details = {
        "settings": {
            "every": 1,
            "media_token": IMAGE_TOKEN,
            "end_of_chunk": END,
            "pad": PAD,
            "perceiver": PERCEIVER,
            "gated_block": BLOCK,
            "vision": "patch tokens of the last block, before ln_post, no [cls]",
        },
        "loss": float(loss.detach()),
        "grad_norms": _norms(gradients),
        "layers_with_gate_if_every_3": [2],
        "loss_if_every_3_with_block_2_only": float(_loss(plain, (2,))),
        "abs_loss_change_if_zeroed": zeroed,
        "generate": {
            "longer": {
                "input_ids": ROWS[0][:8],
                "output_ids": ROWS[0][:8] + answer,
                "same_without_cache": answer,
            }
        },
    }
    _write(folder, "C_forward", tensors, details, 1e-5)


def _continue(
    model: _Marked, prompt: list[int], media: Tensor, *, steps: int
) -> tuple[list[int], Tensor]:
    answer, logits = [], []
    for _ in range(steps):
        logits.append(model.run(prompt + answer, media)["logits"][-1])
        answer.append(int(logits[-1].argmax()))
    return answer, torch.stack(logits)
