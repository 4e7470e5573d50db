"""LaVIN once more, in plain torch and the released names, with other sizes than the golden tensors.

It shares no code with the package; `plain_lavin_cases` writes what it computes as golden cases. The
batch's first row has no image, so that its all-zero picture routes all others in the tower.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from sentencepiece import SentencePieceProcessor
from torch import Tensor

from tests.golden.plain_program import (
    BLOCKS,
    HEAD_DIM,
    HEADS,
    IMAGE,
    LAYERS,
    PATCH,
    TOWER_WIDTH,
    WIDTH,
    PlainProgram,
    rms_norm,
)

R, HIDDEN, TAU, SCALE, EVERY, TOWER_BLOCKS, W = 4, 6, 3.0, 0.7, 3, 6, 70
PIXEL_INDEX, ROWS = [-1, 2, 0], ["a", "b", "c"]
IN_TOWER = "backbone.visual.transformer.resblocks"


def render_prompt(problem: dict) -> str:
    return (
        f"Question: {problem['question']}\nContext: {problem['hint']}\n"
        f"Options: (A) {problem['choices'][0]} (B) {problem['choices'][1]}\nResponse:"
    )


def render_answer(problem: dict) -> str:
    explanation = f"{problem['lecture']} {problem['solution']}"
    answer = f"The answer is {'AB'[problem['answer']]}. BECAUSE: {explanation}"
    return answer.replace("  ", " ").strip()


def adapter_shapes(place: str, width: int, *, routed: bool = True) -> dict[str, tuple[int, ...]]:
    shapes = {
        "conv_A.weight": (R, width, 1),
        "conv_A.bias": (R,),
        "conv_B.weight": (width, R // 2, 1),
        "conv_B.bias": (width,),
    }
    if routed:
        shapes |= {"conv_D.weight": (width, R // 2, 1), "conv_D.bias": (width,)}
        shapes |= {"expert_weights.weight": (2, width), "expert_weights.bias": (2,)}
    return {f"{place}.adapter_attn.{name}": shape for name, shape in shapes.items()}


def all_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "adapter_proj.conv_A.weight": (HIDDEN, TOWER_WIDTH),
        "adapter_proj.conv_A.bias": (HIDDEN,),
        "adapter_proj.conv_B.weight": (WIDTH, HIDDEN),
        "adapter_proj.conv_B.bias": (WIDTH,),
        "adapter_modality_embedding.weight": (2, WIDTH),
    }
    for layer in range(LAYERS):
        shapes |= adapter_shapes(f"layers.{layer}", WIDTH)
    for block in range(TOWER_BLOCKS):
        shapes |= adapter_shapes(f"{IN_TOWER}.{block}", TOWER_WIDTH)
    return shapes


class PlainLavin:
    """The method on a plain program's weights."""

    def __init__(self, program: PlainProgram, tokenizer: SentencePieceProcessor) -> None:
        self.program, self.tokenizer = program, tokenizer
        self.state = {n: program.random(*shape, std=0.3) for n, shape in all_shapes().items()}
        self.tau, self.scale, self.seen = TAU, SCALE, {}

    def routed(self, normed: Tensor, place: str, deciding: Tensor) -> Tensor:
        part = {
            name.removeprefix(f"{place}.adapter_attn."): tensor
            for name, tensor in self.state.items()
            if name.startswith(f"{place}.")
        }
        hidden = F.conv1d(normed.transpose(1, 2), part["conv_A.weight"], part["conv_A.bias"])
        first = F.conv1d(hidden, part["conv_B.weight"], part["conv_B.bias"], groups=2)
        if "conv_D.weight" not in part:
            return first.transpose(1, 2)
        second = F.conv1d(hidden, part["conv_D.weight"], part["conv_D.bias"], groups=2)
        values = F.linear(deciding, part["expert_weights.weight"], part["expert_weights.bias"])
        weights = torch.softmax(values / self.tau, -1)
        self.seen[f"{place} weights"] = weights
        one, two = weights[..., :1], weights[..., 1:]
        added = one * first.transpose(1, 2) + two * second.transpose(1, 2)
        return normed + self.scale * added

    def tower(self, pixels: Tensor) -> Tensor:
        clip, norm, linear = self.program.clip, self.program._layer_norm, self.program._linear
        states = F.conv2d(pixels, clip["visual.conv1.weight"], stride=PATCH)
        states = states.flatten(2).transpose(1, 2)
        first = clip["visual.class_embedding"].expand(len(states), 1, TOWER_WIDTH)
        states = torch.cat([first, states], 1) + clip["visual.positional_embedding"]
        states = norm(states, "visual.ln_pre")
        read = []
        for block in range(TOWER_BLOCKS):
            name = f"visual.transformer.resblocks.{block % BLOCKS}"
            normed = norm(states, f"{name}.ln_1")
            adapted = self.routed(normed, f"{IN_TOWER}.{block}", normed[0])
            if not block:
                self.seen["tower in"], self.seen["tower out"] = normed, adapted
            q, k, v = linear(adapted, f"{name}.attn.in_proj_").chunk(3, -1)
            attended = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(TOWER_WIDTH), -1) @ v
            states = states + linear(attended, f"{name}.attn.out_proj.")
            hidden = linear(norm(states, f"{name}.ln_2"), f"{name}.mlp.c_fc.")
            hidden = hidden * torch.sigmoid(1.702 * hidden)
            states = states + linear(hidden, f"{name}.mlp.c_proj.")
            if (block + 1) % EVERY == 0:
                read.append(states[:, 0])
        return torch.stack(read, 1)

    def project(self, features: Tensor) -> Tensor:
        w1, b1, w2, b2 = (
            self.state[f"adapter_proj.conv_{part}.{kind}"]
            for part in "AB"
            for kind in ("weight", "bias")
        )
        return F.linear(F.silu(F.linear(features, w1, b1)), w2, b2)

    def decode(self, states: Tensor, positions: Tensor) -> Tensor:
        """Return logits of all places; the modality token stands first and is seen by none."""
        length = states.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        mask[1:, 0] = float("-inf")
        llm = self.program.llm
        for layer in range(LAYERS):
            name = f"layers.{layer}"
            normed = rms_norm(states, llm[f"{name}.attention_norm.weight"])
            adapted = self.routed(normed, name, normed[:, :1])
            if not layer:
                self.seen["llm out"] = adapted
            q, k, v = (
                F.linear(adapted, llm[f"{name}.attention.{w}.weight"]).unflatten(-1, (HEADS, -1))
                for w in ("wq", "wk", "wv")
            )
            q, k = _rotate(q, positions), _rotate(k, positions)
            scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(HEAD_DIM)
            attended = torch.einsum("bhts,bshd->bthd", torch.softmax(scores + mask, -1), v)
            states = states + F.linear(attended.flatten(2), llm[f"{name}.attention.wo.weight"])
            normed = rms_norm(states, llm[f"{name}.ffn_norm.weight"])
            w1, w2, w3 = (llm[f"{name}.feed_forward.w{i}.weight"] for i in (1, 2, 3))
            states = states + F.linear(F.silu(F.linear(normed, w1)) * F.linear(normed, w3), w2)
            self.seen[f"layer {layer}"] = states
        return F.linear(rms_norm(states, llm["norm.weight"]), llm["output.weight"])

    def pictures(self, rows: Sequence[int]) -> Tensor:
        zero = torch.zeros(3, IMAGE, IMAGE)
        places = [PIXEL_INDEX[row] for row in rows]
        return torch.stack([self.program.pixels[p].float() if p >= 0 else zero for p in places])

    def text(self, row: int, problems: dict, *, with_answer: bool) -> tuple[list[int], list[int]]:
        """Return ids and labels of a row, before anything is inserted."""
        problem = problems[ROWS[row]]
        prompt = [self.tokenizer.bos_id(), *self.tokenizer.encode(render_prompt(problem))]
        if not with_answer:
            return prompt, [0] * len(prompt)
        whole = [
            *(
                self.tokenizer.bos_id(),
                *self.tokenizer.encode(render_prompt(problem) + render_answer(problem)),
            ),
            self.tokenizer.eos_id(),
        ]
        labels = [0 if place < len(prompt) else token for place, token in enumerate(whole)]
        return whole[:W], labels[:W]

    def inserted(self, row: int, ids: list[int]) -> tuple[list[int], int]:
        """Return ids with prefix and slots behind the first, and how many these are."""
        more = self.tokenizer.encode("Image: N/A")
        if PIXEL_INDEX[row] >= 0:
            more = [*self.tokenizer.encode("Image: "), *[0] * (TOWER_BLOCKS // EVERY)]
        return [ids[0], *more, *ids[1:]], len(more)

    def embed(self, rows: Sequence[int], ids: Tensor, images: Tensor) -> Tensor:
        """Embed ids, put the image vectors into their slots, and the modality token in front."""
        embeddings = self.program.llm["tok_embeddings.weight"][ids].clone()
        num_slots = images.shape[1]
        for place, row in enumerate(rows):
            if PIXEL_INDEX[row] >= 0:
                start = 1 + len(self.tokenizer.encode("Image: "))
                embeddings[place, start : start + num_slots] = images[place]
        shown = torch.tensor([int(PIXEL_INDEX[row] >= 0) for row in rows])
        modality = self.state["adapter_modality_embedding.weight"][shown][:, None]
        return torch.cat([modality, embeddings], 1)

    def loss(self, rows: Sequence[int], problems: dict, *, alone: bool = False) -> Tensor:
        pictures = self.pictures(rows)
        if alone:
            features = torch.cat([self.tower(each[None]) for each in pictures])
        else:
            features = self.tower(pictures)
        images = self.project(features)
        ids, labels = torch.zeros(len(rows), W).long(), torch.zeros(len(rows), W).long()
        for place, row in enumerate(rows):
            text, scored = self.text(row, problems, with_answer=True)
            whole, num_more = self.inserted(row, text)
            scored = [scored[0], *[0] * num_more, *scored[1:]]
            ids[place, : min(len(whole), W)] = torch.tensor(whole[:W])
            labels[place, : min(len(whole), W)] = torch.tensor(scored[:W])
        embeddings = self.embed(rows, ids, images)[:, :W]
        labels = torch.cat([torch.zeros(len(rows), 1).long(), labels], 1)[:, :W]
        logits = self.decode(embeddings, torch.arange(W))
        self.seen |= {"features": features, "images": images, "whole": embeddings, "logits": logits}
        scores = logits[:, :-1].flatten(0, 1)
        return F.cross_entropy(scores, labels[:, 1:].flatten(), ignore_index=0)


def _rotate(states: Tensor, positions: Tensor) -> Tensor:
    frequencies = 10000.0 ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)
    angles = torch.outer(positions.float(), frequencies)
    turned = torch.view_as_complex(states.reshape(*states.shape[:-1], -1, 2))
    turned = turned * torch.polar(torch.ones_like(angles), angles)[None, :, None]
    return torch.view_as_real(turned).flatten(3)
