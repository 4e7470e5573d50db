"""The whole model once more, in plain torch and the reference's names, with other sizes.

It shares no code with the package, and writes a set of cases in the format of the golden ones. So
parity is tested where the golden tensors are absent, and nothing can be tuned to their sizes.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

WIDTH, LAYERS, HEADS, FFN, VOCABULARY, NORM_EPS = 48, 3, 3, 80, 90, 1e-5
HEAD_DIM = WIDTH // HEADS
TOWER_WIDTH, BLOCKS, PATCH, SIDE = 64, 4, 14, 5  # one head of 64
IMAGE, GRID = PATCH * SIDE, SIDE * SIDE
SCALES = (9, 25, 1)
HYPER = {
    "alpha": 0.2,
    "beta": 0.05,
    "drop_ratio": 0.33,
    "hidden_proj": 8,
    "adapter_dim": 3,
    "down_sample_num": list(SCALES),
    "clip_adapter_scale": 0.3,
}
IMAGE_PREFIX, NO_IMAGE_PREFIX = [5, 6, 7, 8], [5, 9]
VARIANTS = {
    "cls": (True, {}),
    "nocls": (False, {}),
    "odd": (True, {"alpha": 0.1, "beta": 0.2, "drop_ratio": 0.0, "clip_adapter_scale": 0.15}),
}
RECIPE = {
    "betas": [0.8, 0.9],
    "eps": 1e-6,
    "epochs": 3,
    "warmup_epochs": 0.5,
    "min_lr": 1e-5,
    "accum_iter": 3,
    "batch_size": 1,
    "weight_decay": 0.1,
    "blr": 0.1,
    "effective_batch": 3,
}
MICRO_BATCHES = [
    [[0], [2], [1], [3], [4], [5]],
    [[5], [4], [3], [0], [1], [2]],
    [[0], [1], [2], [3], [4], [5]],
]


class PlainProgram:
    """Random weights, and the model's forward pass over them."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)
        self.llm = self._llm_weights()
        self.clip = self._clip_weights()
        self.adapter = self._adapter_weights()
        self.pixels = self.random(3, 3, IMAGE, IMAGE).half()

    def random(self, *shape: int, std: float = 1.0) -> Tensor:
        return std * torch.randn(shape, generator=self.generator)

    def _norm(self, width: int) -> Tensor:
        return 1 + self.random(width, std=0.1)

    def _llm_weights(self) -> dict[str, Tensor]:
        weights = {
            "tok_embeddings.weight": self.random(VOCABULARY, WIDTH),
            "norm.weight": self._norm(WIDTH),
            "output.weight": self.random(VOCABULARY, WIDTH, std=0.3),
            "rope.freqs": self.random(HEAD_DIM // 2),
        }
        shapes = dict.fromkeys(("wq", "wk", "wv", "wo"), (WIDTH, WIDTH))
        shapes |= {"w1": (FFN, WIDTH), "w2": (WIDTH, FFN), "w3": (FFN, WIDTH)}
        for layer in range(LAYERS):
            for name, shape in shapes.items():
                part = "feed_forward" if name[1:].isdigit() else "attention"
                weights[f"layers.{layer}.{part}.{name}.weight"] = self.random(*shape, std=0.15)
            for name in ("attention_norm", "ffn_norm"):
                weights[f"layers.{layer}.{name}.weight"] = self._norm(WIDTH)
        return weights

    def _clip_weights(self) -> dict[str, Tensor]:
        weights = {
            "visual.class_embedding": self.random(TOWER_WIDTH),
            "visual.conv1.weight": self.random(TOWER_WIDTH, 3, PATCH, PATCH, std=0.05),
            "visual.positional_embedding": self.random(GRID + 1, TOWER_WIDTH, std=0.1),
            "visual.proj": self.random(TOWER_WIDTH, 32),
            "positional_embedding": self.random(16, 64),
            "token_embedding.weight": self.random(20, 64),
            "text_projection": self.random(64, 32),
            "logit_scale": torch.tensor(1.0),
        }
        blocks = [f"visual.transformer.resblocks.{block}" for block in range(BLOCKS)]
        norms = ["visual.ln_pre", "visual.ln_post", "ln_final"]
        for block in [*blocks, "transformer.resblocks.0"]:
            norms += [f"{block}.ln_1", f"{block}.ln_2"]
            for name, outputs, inputs in (
                ("attn.in_proj_", 3, 1),
                ("attn.out_proj.", 1, 1),
                ("mlp.c_fc.", 4, 1),
                ("mlp.c_proj.", 1, 4),
            ):
                shape = (outputs * TOWER_WIDTH, inputs * TOWER_WIDTH)
                weights[f"{block}.{name}weight"] = self.random(*shape, std=0.1)
                weights[f"{block}.{name}bias"] = self.random(shape[0], std=0.1)
        for norm in norms:
            weights[f"{norm}.weight"] = self._norm(TOWER_WIDTH)
            weights[f"{norm}.bias"] = self.random(TOWER_WIDTH, std=0.1)
        return {name: weight.half().float() for name, weight in weights.items()}

    def _adapter_weights(self) -> dict[str, Tensor]:
        hidden, dim = HYPER["hidden_proj"], HYPER["adapter_dim"]
        weights = {f"adapter_emb{i}": self.random(1, sum(SCALES), WIDTH, std=0.3) for i in (1, 2)}
        for name in ("adapter_proj", "adapter_proj_cls"):
            weights[f"{name}.fc1.weight"] = self.random(hidden, TOWER_WIDTH, std=0.2)
            weights[f"{name}.fc1.bias"] = self.random(hidden, std=0.2)
            weights[f"{name}.fc2.weight"] = self.random(WIDTH, hidden, std=0.5)
            weights[f"{name}.fc2.bias"] = self.random(WIDTH, std=0.5)
        for block in range(BLOCKS):
            name = f"backbone.visual.transformer.resblocks.{block}.adapter_mlp"
            weights[f"{name}.fc1.weight"] = self.random(dim, TOWER_WIDTH, std=0.2)
            weights[f"{name}.fc2.weight"] = self.random(TOWER_WIDTH, dim, std=0.3)
        return weights

    def tower(self, pixels: Tensor, adapter: dict[str, Tensor] | None, scale: float) -> Tensor:
        states = self.blocks(pixels, adapter, scale, number=BLOCKS - 1)
        return self._layer_norm(states, "visual.ln_post")

    def blocks(
        self,
        pixels: Tensor,
        adapter: dict[str, Tensor] | None = None,
        scale: float = 0.0,
        *,
        number: int,
    ) -> Tensor:
        """Return the states of the first blocks, [cls] in front."""
        states = F.conv2d(pixels, self.clip["visual.conv1.weight"], stride=PATCH)
        states = states.flatten(2).transpose(1, 2)
        first = self.clip["visual.class_embedding"].expand(len(states), 1, TOWER_WIDTH)
        states = torch.cat([first, states], 1) + self.clip["visual.positional_embedding"]
        states = self._layer_norm(states, "visual.ln_pre")
        for block in range(number):
            name = f"visual.transformer.resblocks.{block}"
            normed = self._layer_norm(states, f"{name}.ln_1")
            q, k, v = self._linear(normed, f"{name}.attn.in_proj_").chunk(3, -1)
            attended = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(TOWER_WIDTH), -1) @ v
            states = states + self._linear(attended, f"{name}.attn.out_proj.")
            normed = self._layer_norm(states, f"{name}.ln_2")
            hidden = self._linear(normed, f"{name}.mlp.c_fc.")
            added = self._linear(hidden * torch.sigmoid(1.702 * hidden), f"{name}.mlp.c_proj.")
            if adapter is not None:
                down, up = (adapter[f"backbone.{name}.adapter_mlp.fc{i}.weight"] for i in (1, 2))
                added = added + scale * F.linear(F.gelu(F.linear(normed, down)), up)
            states = states + added
        return states

    def _linear(self, states: Tensor, name: str) -> Tensor:
        return F.linear(states, self.clip[f"{name}weight"], self.clip[f"{name}bias"])

    def _layer_norm(self, states: Tensor, name: str) -> Tensor:
        weight, bias = self.clip[f"{name}.weight"], self.clip[f"{name}.bias"]
        return F.layer_norm(states, (TOWER_WIDTH,), weight, bias)

    def decode(
        self, embeddings: Tensor, visual: Tensor, adapter: dict[str, Tensor], hyper: dict
    ) -> tuple[Tensor, list[Tensor]]:
        def fused(normed: Tensor) -> Tensor:
            tables = adapter["adapter_emb1"], adapter["adapter_emb2"]
            return hyper["alpha"] * fuse(normed, visual, *tables, hyper["drop_ratio"])

        states, outputs = embeddings, []
        for layer in range(LAYERS):
            states = self.layer(states, layer, fused)
            outputs.append(states)
        return self.predict(states), outputs

    def layer(
        self, states: Tensor, layer: int, beside_mlp: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Return the states behind a decoder layer, with what is added of its MLP's input."""
        num_rows, length = states.shape[:2]
        mask = torch.full((length, length), float("-inf")).triu(1)
        name = f"layers.{layer}"
        normed = rms_norm(states, self.llm[f"{name}.attention_norm.weight"])
        q, k, v = (
            F.linear(normed, self.llm[f"{name}.attention.{w}.weight"]).view(
                num_rows, length, HEADS, HEAD_DIM
            )
            for w in ("wq", "wk", "wv")
        )
        scores = torch.einsum("bthd,bshd->bhts", _rotate(q), _rotate(k)) / math.sqrt(HEAD_DIM)
        attended = torch.einsum("bhts,bshd->bthd", torch.softmax(scores + mask, -1), v)
        states = states + F.linear(attended.flatten(2), self.llm[f"{name}.attention.wo.weight"])
        normed = rms_norm(states, self.llm[f"{name}.ffn_norm.weight"])
        w1, w2, w3 = (self.llm[f"{name}.feed_forward.w{i}.weight"] for i in (1, 2, 3))
        fed = F.linear(F.silu(F.linear(normed, w1)) * F.linear(normed, w3), w2)
        return states + fed + (beside_mlp(normed) if beside_mlp else 0)

    def predict(self, states: Tensor) -> Tensor:
        """Return the logits behind the last layer."""
        final = rms_norm(states, self.llm["norm.weight"])
        return F.linear(final, self.llm["output.weight"])

    def run(
        self, rows: dict[str, Tensor], adapter: dict[str, Tensor], hyper: dict
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, and everything on the way to it."""
        with_cls = "adapter_proj_cls.fc1.weight" in adapter
        ids, labels, slots = _assemble(rows, with_cls=with_cls)
        indicators = rows["indicators"]
        pixels = torch.zeros(len(ids), 3, IMAGE, IMAGE)
        for row in indicators.nonzero().flatten().tolist():
            pixels[row] = self.pixels[int(rows["pixel_index"][row])].float()
        features = self.tower(pixels, adapter, hyper["clip_adapter_scale"])
        visual = _project(adapter, "adapter_proj", pool(features[:, 1:], SCALES))
        visual = visual * hyper["beta"] * indicators.view(-1, 1, 1)
        embeddings = self.llm["tok_embeddings.weight"][ids]
        found = {}
        if with_cls:
            found["cls_tokens"] = _project(adapter, "adapter_proj_cls", features[:, :1])
            embeddings = embeddings.clone()
            for row, slot in enumerate(slots):
                if slot >= 0:
                    embeddings[row, slot] = found["cls_tokens"][row, 0]
        logits, outputs = self.decode(embeddings, visual, adapter, hyper)
        loss = F.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=0
        )
        found |= {
            "features": features[indicators.bool()],
            "image_embeds": visual,
            "inputs_embeds": embeddings,
            "logits": logits,
            "labels_assembled": labels.int(),
            "loss": loss.reshape(1),
        }
        return loss, found | {f"layer_out_{i}": o for i, o in enumerate(outputs, start=1)}


def fuse(states: Tensor, visual: Tensor, keys: Tensor, values: Tensor, gamma: float) -> Tensor:
    scores = F.silu(states) @ F.silu(visual + keys).transpose(1, 2)
    if gamma > 0:
        ordered = torch.sort(scores, dim=-1).values
        threshold = ordered[..., int(gamma * scores.shape[-1])].unsqueeze(-1)
        scores = torch.where(scores < threshold, torch.zeros_like(scores), scores)
    return scores @ (visual + values)


def pool(grid: Tensor, scales: tuple[int, ...]) -> Tensor:
    image = grid.transpose(1, 2).reshape(len(grid), -1, SIDE, SIDE)
    pooled = [F.adaptive_avg_pool2d(image, math.isqrt(scale)).flatten(2) for scale in scales]
    return torch.cat(pooled, dim=2).transpose(1, 2)


def _project(adapter: dict[str, Tensor], name: str, states: Tensor) -> Tensor:
    w1, b1, w2, b2 = (
        adapter[f"{name}.fc{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")
    )
    return F.linear(F.silu(F.linear(states, w1, b1)), w2, b2)


def rms_norm(states: Tensor, weight: Tensor) -> Tensor:
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + NORM_EPS) * weight


def _rotate(states: Tensor) -> Tensor:
    """Rotate neighbouring pairs, as complex numbers."""
    frequencies = 10000.0 ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)
    angles = torch.outer(torch.arange(states.shape[1]).float(), frequencies)
    turned = torch.view_as_complex(states.reshape(*states.shape[:-1], -1, 2))
    turned = turned * torch.polar(torch.ones_like(angles), angles)[None, :, None]
    return torch.view_as_real(turned).flatten(3)


def _assemble(rows: dict[str, Tensor], *, with_cls: bool) -> tuple[Tensor, Tensor, list[int]]:
    all_ids, all_labels, slots = [], [], []
    width = rows["examples"].shape[1]
    for row, indicator in enumerate(rows["indicators"].tolist()):
        inserted = ([*IMAGE_PREFIX, 0] if indicator else NO_IMAGE_PREFIX) if with_cls else []
        ids, labels = rows["examples"][row].tolist(), rows["labels"][row].tolist()
        all_ids.append((ids[:1] + inserted + ids[1:])[:width])
        all_labels.append((labels[:1] + [0] * len(inserted) + labels[1:])[:width])
        slots.append(1 + len(IMAGE_PREFIX) if with_cls and indicator else -1)
    ids, labels = torch.tensor(all_ids), torch.tensor(all_labels)
    end = int(labels.any(dim=0).nonzero().max()) + 1
    return ids[:, :end], labels[:, :end], slots


def _rows(program: PlainProgram, indicators: list[int], *, width: int) -> dict[str, Tensor]:
    examples = torch.zeros(len(indicators), width, dtype=torch.int32)
    labels, mask = examples.clone(), torch.zeros(len(indicators), width)
    for row in range(len(indicators)):
        length = min(width, 20 + 3 * row)
        ids = torch.randint(3, VOCABULARY, (length,), generator=program.generator).int()
        examples[row, :length], examples[row, 0] = ids, 1
        labels[row, length - 6 : length] = ids[-6:]
        mask[row, :length] = 1
    shown = iter([2, 0, 1, 2, 0])
    return {
        "examples": examples,
        "labels": labels,
        "example_mask": mask,
        "indicators": torch.tensor(indicators, dtype=torch.int32),
        "pixel_index": torch.tensor([next(shown) if i else -1 for i in indicators]),
        "prefix_img": torch.tensor(IMAGE_PREFIX),
        "prefix_nonimg": torch.tensor(NO_IMAGE_PREFIX),
    }


def write_set(folder: Path) -> None:
    """Write models and cases A, B, C, D and E in the golden format."""
    program = PlainProgram()
    write_models(program, folder / "models")
    save_case(folder / "pixels", {"pixels_sqa": program.pixels})
    pixels = program.pixels[:2].float()
    features = {
        "features_plain": program.tower(pixels, None, 0.0),
        "features_adapted": program.tower(pixels, program.adapter, HYPER["clip_adapter_scale"]),
    }
    save_case(folder / "A_vision", features, {"clip_adapter_scale": HYPER["clip_adapter_scale"]})
    grid = program.random(2, GRID, 4)
    pooled = {f"out_{'_'.join(map(str, s))}": pool(grid, s) for s in ((9,), (1, 25), SCALES)}
    save_case(folder / "B_sampler", {"x": grid, **pooled}, {})
    _write_fusion(program, folder)
    _write_forward(program, folder)
    _write_trajectory(program, folder)


def save_case(path: Path, tensors: dict[str, Tensor], details: dict | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path.with_suffix(".safetensors"))
    if details is not None:
        path.with_suffix(".json").write_text(json.dumps(details), encoding="utf-8")


def write_models(program: PlainProgram, folder: Path) -> None:
    save_case(folder / "clip_openai_format", {n: w.half() for n, w in program.clip.items()})
    save_case(folder / "adapter_init", program.adapter)
    sizes = {"hyper": HYPER, "clip": {"layers": BLOCKS, "image": IMAGE}}
    (folder / "model.json").write_text(json.dumps(sizes), encoding="utf-8")
    params = {"dim": WIDTH, "n_heads": HEADS, "n_layers": LAYERS, "norm_eps": NORM_EPS}
    for name, num_shards in (("7B", 1), ("30B", 2)):
        weights = folder / "weights" / name
        weights.mkdir(parents=True)
        (weights / "params.json").write_text(json.dumps({**params, "vocab_size": -1}))
        for shard in range(num_shards):
            state = {
                n: w.chunk(num_shards, _split_dim(n))[shard].clone() if w.ndim == 2 else w
                for n, w in program.llm.items()
            }
            torch.save(state, weights / f"consolidated.{shard:02d}.pth")


def _split_dim(name: str) -> int:
    return int(any(part in name for part in ("wo.", "w2.", "tok_embeddings")))


def _write_fusion(program: PlainProgram, folder: Path) -> None:
    num_tokens = sum(SCALES)
    shapes = {
        "x": (3, 5, WIDTH),
        "image_embeds": (3, num_tokens, WIDTH),
        "adapter_emb1": (1, num_tokens, WIDTH),
        "adapter_emb2": (1, num_tokens, WIDTH),
    }
    inputs = {name: program.random(*shape) for name, shape in shapes.items()}
    tensors = {**inputs, "grad_out": program.random(3, 5, WIDTH)}
    cases = {}
    for gamma in (0.0, 0.29, 0.75):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
        output = fuse(*leaves.values(), gamma)
        output.backward(tensors["grad_out"])
        tensors[f"drop{gamma}.out"] = output
        tensors |= {f"drop{gamma}.grad_{name}": leaf.grad for name, leaf in leaves.items()}
        kept = [[num_tokens - int(gamma * num_tokens)] * 5] * 3
        cases[f"drop{gamma}"] = {"drop_ratio": gamma, "kept_per_row": kept, "inputs": "plain"}
    save_case(folder / "C_fusion", tensors, {"cases": cases})


def _leaves(program: PlainProgram, *, with_cls: bool) -> dict[str, Tensor]:
    return {
        name: weight.clone().requires_grad_()
        for name, weight in program.adapter.items()
        if with_cls or "proj_cls" not in name
    }


def _write_forward(program: PlainProgram, folder: Path) -> None:
    rows = _rows(program, [1, 0, 1, 1, 0], width=29)  # the last row's end is pushed out
    save_case(folder / "D_inputs", rows)
    variants = {}
    for variant, (with_cls, override) in VARIANTS.items():
        adapter = _leaves(program, with_cls=with_cls)
        loss, found = program.run(rows, adapter, {**HYPER, **override})
        loss.backward()
        gradients = {n: leaf.grad for n, leaf in adapter.items() if leaf.grad is not None}
        save_case(
            folder / f"D_{variant}", {**found, **{f"grad.{n}": g for n, g in gradients.items()}}
        )
        without = [name for name in adapter if name not in gradients]
        variants[variant] = {
            "with_cls": with_cls, "hyper_override": override, "params_without_grad": without,
        }  # fmt: skip
    save_case(folder / "D_forward", {}, {"hyper": HYPER, "variants": variants})


def _write_trajectory(program: PlainProgram, folder: Path) -> None:
    rows = _rows(program, [1, 1, 0, 1, 0, 1], width=40)
    adapter = _leaves(program, with_cls=False)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in adapter.values() if p.ndim < 2], "weight_decay": 0.0},
            {"params": [p for p in adapter.values() if p.ndim >= 2]},
        ],
        betas=RECIPE["betas"],
        eps=RECIPE["eps"],
        weight_decay=RECIPE["weight_decay"],
    )
    peak = RECIPE["blr"] * RECIPE["effective_batch"] / 256
    warmup, accumulated = RECIPE["warmup_epochs"], RECIPE["accum_iter"]
    steps, losses, rates, norms = {}, [], [], []
    for epoch, batches in enumerate(MICRO_BATCHES):
        for first in range(0, len(batches), accumulated):
            done = epoch + first / len(batches)
            wave = 1 + math.cos(math.pi * (done - warmup) / (RECIPE["epochs"] - warmup))
            falling = RECIPE["min_lr"] + (peak - RECIPE["min_lr"]) / 2 * wave
            rates.append(peak * done / warmup if done < warmup else falling)
            for group in optimizer.param_groups:
                group["lr"] = rates[-1]
            optimizer.zero_grad()
            for batch in batches[first : first + accumulated]:
                chosen = {n: t if n.startswith("prefix") else t[batch] for n, t in rows.items()}
                loss, _ = program.run(chosen, adapter, HYPER)
                (loss / accumulated).backward()
                losses.append(loss.item())
            gradients = [p.grad.flatten() for p in adapter.values() if p.grad is not None]
            norms.append(float(torch.cat(gradients).norm()))
            optimizer.step()
            steps |= {f"step{len(rates)}.{n}": p.detach().clone() for n, p in adapter.items()}
    measured = {
        "micro_loss": torch.tensor(losses),
        "lr": torch.tensor(rates, dtype=torch.float64),
        "grad_norm": torch.tensor(norms),
    }
    details = {"settings": RECIPE, "batches_per_epoch": MICRO_BATCHES, "hyper": HYPER}
    save_case(folder / "E_trajectory", {**rows, **steps, **measured}, details)
