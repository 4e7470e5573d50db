"""Writes cases A, B and C of LaVIN, computed by the plain program, in the format of the golden."""

import json
import math
from pathlib import Path

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn

from tests import tiny
from tests.golden.plain_lavin import (
    EVERY,
    HIDDEN,
    IN_TOWER,
    PIXEL_INDEX,
    ROWS,
    SCALE,
    TAU,
    TOWER_BLOCKS,
    PlainLavin,
    R,
    W,
    adapter_shapes,
    all_shapes,
    render_answer,
    render_prompt,
)
from tests.golden.plain_program import (
    LAYERS,
    TOWER_WIDTH,
    VOCABULARY,
    WIDTH,
    PlainProgram,
    save_case,
)

SETTINGS = {
    "adapter_dim": R,
    "hidden_proj": HIDDEN,
    "groups": 2,
    "scale": SCALE,
    "router_temperature": TAU,
    "max_seq_len": W,
    "visual_adapter": "router",
    "clip_layers": TOWER_BLOCKS,
    "cls_every": EVERY,
    "dropout": 0.0,
}
TOLERANCE = {
    **dict.fromkeys(("features", "intermediate", "logits"), 1e-4),
    **dict.fromkeys(("loss", "gradients"), 1e-5),
    "parameters_after_steps": 2e-5,
}
MAX_GEN_LEN = 3


def write_text(program: PlainProgram, models: Path) -> SentencePieceProcessor:
    """Write questions and a tokenizer; tokens that it does not have are never the likeliest."""
    texts = {"a": ("Is it red?", "no"), "b": ("Is the red square blue?", "the yes"), "c": ("?", "")}
    problems = {
        name: {
            "question": question,
            "choices": ["yes", "no"],
            "answer": number % 2,
            "hint": "blue red",
            "lecture": lecture,
            "solution": "it is",
            "caption": "a square",
            "image": "",
        }
        for number, (name, (question, lecture)) in enumerate(texts.items())
    }
    models.mkdir(parents=True, exist_ok=True)
    (models.parent / "G_prompts.json").write_text(json.dumps({"problems": problems}))
    weights = models / "weights"
    weights.mkdir(exist_ok=True)
    path = weights / "tokenizer.model"
    texts = [render_prompt(p) + render_answer(p) + " Image: N/A" for p in problems.values()]
    tiny.train_tokenizer(path, texts, vocab_size=VOCABULARY - 5)
    tokenizer = SentencePieceProcessor(model_file=str(path))
    program.llm["output.weight"][tokenizer.vocab_size() :] = 0
    return tokenizer


def _initial(name: str, shape: tuple[int, ...], fan: int) -> Tensor:
    """Draw a tensor as the released code does, from the global generator."""
    values = torch.zeros(shape)
    if "modality" in name:
        return nn.init.normal_(values)
    if "expert_weights" in name:
        return getattr(nn.Linear(fan, 2), name.rpartition(".")[2]).detach()
    if name.endswith("conv_A.weight") or name == "adapter_proj.conv_B.weight":
        return nn.init.xavier_uniform_(values)
    return values


def write_lavin(program: PlainProgram, tokenizer: SentencePieceProcessor, folder: Path) -> None:
    """Write cases A, B and C; questions stand in `golden` beside the folder of methods."""
    content = (folder.parent.parent / "golden" / "G_prompts.json").read_text()
    problems, model = json.loads(content)["problems"], PlainLavin(program, tokenizer)
    _write_training(model, problems, folder)
    _write_plain(model, folder)
    _write_generation(model, problems, folder)


def _write_training(model: PlainLavin, problems: dict, folder: Path) -> None:
    rows = range(len(ROWS))
    trained = {name: tensor.clone() for name, tensor in model.state.items()}
    tensors = {f"param.{name}": tensor for name, tensor in trained.items()}
    examples, labels = torch.zeros(len(ROWS), W).int(), torch.zeros(len(ROWS), W).int()
    for row in rows:
        ids, scored = model.text(row, problems, with_answer=True)
        examples[row, : len(ids)], labels[row, : len(ids)] = torch.tensor(ids), torch.tensor(scored)
    places = torch.arange(3, W, 9).int()
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in trained.items()}
    model.state = leaves
    loss = model.loss(rows, problems)
    loss.backward()
    seen = dict(model.seen)
    tensors |= {
        "examples": examples,
        "labels": labels,
        "indicators": torch.tensor([int(place >= 0) for place in PIXEL_INDEX]).int(),
        "pixel_index": torch.tensor(PIXEL_INDEX).int(),
        "prefix_img": torch.tensor(model.tokenizer.encode("Image: ")).int(),
        "prefix_nonimg": torch.tensor(model.tokenizer.encode("Image: N/A")).int(),
        "features": seen["features"],
        "image_embeds": seen["images"],
        "modality_embed": seen["whole"][:, :1],
        "inputs_embeds": seen["whole"],
        "adapter_attn_out_0": seen["llm out"],
        "clip_adapter_in_0.batch0": seen["tower in"][0],
        "clip_adapter_out_0.strided": seen["tower out"][:, ::5],
        "clip_router_weights_0": seen[f"{IN_TOWER}.0 weights"],
        "logit_positions": places,
        "logits": seen["logits"][:, places.long()],
        **{f"layer_out_{n + 1}": seen[f"layer {n}"] for n in range(LAYERS)},
        **{f"router_weights_{n}": seen[f"layers.{n} weights"][:, 0] for n in range(LAYERS)},
        **{f"grad.{name}": leaf.grad for name, leaf in leaves.items()},
    }
    details = {
        "settings": SETTINGS,
        "qids": ROWS,
        "prompt_format": "QCM-ALE",
        "use_caption": False,
        "loss": float(loss.detach()),
        "init": _fresh(),
        "grad_norms": {name: float(leaf.grad.norm()) for name, leaf in leaves.items()},
        "suggested_absolute_tolerance": TOLERANCE,
    }
    model.state = trained
    with torch.no_grad():
        details |= _changed_losses(model, problems, tensors)
    details["trajectory"] = _trajectory(model, problems, tensors)
    model.state = trained
    details["tensors"] = {name: [] for name in tensors}
    save_case(folder / "A_forward_train", tensors, details)


def _fresh() -> dict:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        found = {}
        for name, shape in all_shapes().items():
            values = _initial(name, shape, WIDTH if name.startswith("layers") else TOWER_WIDTH)
            found[name] = {
                "shape": list(shape),
                "zero": not bool(values.any()),
                "std": float(values.std()),
                "absmax": float(values.abs().max()),
            }
        return found


def _changed_losses(model: PlainLavin, problems: dict, tensors: dict[str, Tensor]) -> dict:
    rows, trained = range(len(ROWS)), model.state
    before = float(model.loss(rows, problems))
    zeroed = {}
    for word in ("conv_D", "expert_weights", "modality", "resblocks.4"):
        model.state = {n: t * 0 if word in n else t for n, t in trained.items()}
        zeroed[word] = abs(float(model.loss(rows, problems)) - before)
    model.state, orders = trained, {}
    for order in ((1, 0, 2), (2,), (0, 2, 1)):
        name = f"rows_{'_'.join(map(str, order))}"
        orders[name] = float(model.loss(order, problems))
        for place, row in enumerate(order):
            tensors[f"variant.{name}.features_row{row}"] = model.seen["features"][place]
    alone = float(model.loss(rows, problems, alone=True))
    model.tau, variants = 1.5, {}
    variants["router_temperature_1.5"] = float(model.loss(rows, problems))
    model.tau, model.scale = TAU, 2.0
    variants["scale_2.0"] = float(model.loss(rows, problems))
    model.scale = SCALE
    return {
        "abs_loss_change_if_zeroed": zeroed,
        "loss_of_row_orders": orders,
        "loss_with_images_encoded_one_by_one": alone,
        "loss_of_variants": variants,
    }


def _trajectory(model: PlainLavin, problems: dict, tensors: dict[str, Tensor]) -> dict:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in model.state.items()}
    model.state = leaves
    spared = [name for name in leaves if name.endswith(".bias")]
    decayed = [name for name in leaves if name not in spared]
    groups = [
        {"params": [leaves[n] for n in spared], "weight_decay": 0.0},
        {"params": [leaves[n] for n in decayed], "weight_decay": 0.1},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.9), eps=1e-6)
    lrs, losses, norms = [1e-3, 2e-3], [], []
    for step, lr in enumerate(lrs, start=1):
        optimizer.zero_grad()
        loss = model.loss(range(len(ROWS)), problems)
        loss.backward()
        losses.append(float(loss.detach()))
        norms.append(math.sqrt(sum(float(leaf.grad.square().sum()) for leaf in leaves.values())))
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        for name in leaves:
            if step == len(lrs) or name.startswith("layers.1"):
                tensors[f"step{step}.{name}"] = leaves[name].detach().clone()
    with torch.no_grad():
        losses.append(float(model.loss(range(len(ROWS)), problems)))
    return {
        "lr": lrs,
        "weight_decay": 0.1,
        "betas": [0.8, 0.9],
        "eps": 1e-6,
        "loss": losses,
        "grad_norm": norms,
        "group_no_weight_decay": spared,
        "group_weight_decay": decayed,
    }


@torch.no_grad()
def _write_plain(model: PlainLavin, folder: Path) -> None:
    trained, state = model.state, {}
    for block in range(TOWER_BLOCKS):
        for name, shape in adapter_shapes(f"{IN_TOWER}.{block}", TOWER_WIDTH, routed=False).items():
            state[name] = model.program.random(*shape, std=0.3)
    model.state = state
    tensors = {f"param.{name}": tensor for name, tensor in state.items()}
    tensors["pixel_index"] = torch.tensor(PIXEL_INDEX[1:]).int()
    tensors["features"] = model.tower(model.pictures([1, 2]))
    model.state = trained
    details = {
        "settings": {"visual_adapter": "normal", "adapter_dim": R, "clip_layers": TOWER_BLOCKS},
        "suggested_absolute_tolerance": TOLERANCE,
        "tensors": {name: [] for name in tensors},
    }
    save_case(folder / "B_plain_visual_adapter", tensors, details)


@torch.no_grad()
def _write_generation(model: PlainLavin, problems: dict, folder: Path) -> None:
    tensors, calls = {}, {}
    for name, rows in {"together": [2, 0, 1], "one": [1], "other": [0]}.items():
        tensors[f"{name}.logits"], calls[name] = _generated(model, problems, rows)
    details = {
        "calls": calls,
        "qids": ROWS,
        "prompt_format": "QCM-ALE",
        "n_feats": TOWER_BLOCKS // EVERY,
        "max_seq_len": 2 * W,
        "suggested_absolute_tolerance": TOLERANCE,
        "tensors": {name: [] for name in tensors},
    }
    save_case(folder / "C_generate", tensors, details)


def _generated(model: PlainLavin, problems: dict, rows: list[int]) -> tuple[Tensor, dict]:
    """Compute every step anew from all places before it, at the positions that they were fed at."""
    prompts = [
        model.inserted(row, model.text(row, problems, with_answer=False)[0])[0] for row in rows
    ]
    lengths = [len(ids) for ids in prompts]
    shortest, limit = min(lengths), max(lengths) + MAX_GEN_LEN
    ids = torch.zeros(len(rows), limit).long()
    for place, prompt in enumerate(prompts):
        ids[place, : len(prompt)] = torch.tensor(prompt)
    images = model.project(model.tower(model.pictures(rows)))
    # The first step counts the modality token, all later ones do not.
    positions = torch.tensor([*range(shortest + 1), *range(shortest, limit)])
    steps = []
    for end in range(shortest, limit):
        embeddings = model.embed(rows, ids[:, :end], images)
        steps.append(model.decode(embeddings, positions[: end + 1])[:, -1])
        for place, length in enumerate(lengths):
            if end >= length:
                ids[place, end] = steps[-1][place].argmax()
    texts = []
    for place, length in enumerate(lengths):
        text = ids[place, : length + MAX_GEN_LEN].tolist()
        eos = model.tokenizer.eos_id()
        texts.append(text[: text.index(eos)] if eos in text else text)
    call = {
        "rows": rows,
        "max_gen_len": MAX_GEN_LEN,
        "steps": [[0, shortest + 1], *([place, 1] for place in range(shortest, limit - 1))],
        "decoded": [model.tokenizer.decode(text) for text in texts],
        "decoded_tokens": texts,
        "prompt_lengths": lengths,
    }
    return torch.stack(steps), call
