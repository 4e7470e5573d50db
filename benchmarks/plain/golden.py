"""Compares the plain methods with what the released programs computed.

    python benchmarks/plain/golden.py ../shared

Prints for ADEM-VL (case D), MemVP and LaVIN (case A) the largest differences of loss and gradients,
and ends with exit code 1 where one is larger than the folder's README suggests.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from plain.methods import PlainAdem, PlainLavin, PlainMemvp, PlainMethod
from plain.models import Llama, Tower

TOLERANCES = {"loss": 1e-5, "gradients": 5e-6}


def main() -> int:
    """Compare all three and return the exit code."""
    shared = Path(sys.argv[1])
    golden, peers = shared / "golden", shared / "golden_peers"
    is_close = True
    for name, case, folder, slot_tokens, prefixed in (
        ("ADEM-VL D", PlainAdem, golden / "D_cls", 1, True),
        ("MemVP A", PlainMemvp, peers / "memvp" / "A_forward_train", 0, False),
        ("LaVIN A", PlainLavin, peers / "lavin" / "A_forward_train", 3, True),
    ):
        found = compare(case, folder, golden, slot_tokens=slot_tokens, prefixed=prefixed)
        told = ", ".join(f"{what} {difference:.1e}" for what, difference in found.items())
        passed = all(found[what] <= TOLERANCES[what] for what in found)
        print(f"{name:10} {'passed' if passed else 'DIFFERS'}: {told}")
        is_close &= passed
    return 0 if is_close else 1


def compare(
    kind: type[PlainMethod], stem: Path, golden: Path, *, slot_tokens: int, prefixed: bool
) -> dict[str, float]:
    """Return the largest differences to a case's loss and gradients."""
    recorded = load_file(stem.with_suffix(".safetensors"))
    inputs, expected, trained = _case(stem, golden, recorded)
    leaves = {name: tensor.float().requires_grad_() for name, tensor in trained.items()}
    method = kind(_llama(golden), _tower(golden, blocks=12 if kind is PlainLavin else 3), leaves)
    ids, labels, slots = _assemble(inputs, slot_tokens=slot_tokens, prefixed=prefixed)
    if kind is PlainLavin:  # the token of modality takes a place: the end is cut off once more
        ids, labels = ids[:, :-1], labels[:, :-1]
    else:
        end = int(labels.any(0).nonzero().max()) + 1
        ids, labels = ids[:, :end], labels[:, :end]
    pixels = torch.zeros(len(ids), 3, 224, 224)
    pool = load_file(golden / "pixels.safetensors")["pixels_sqa"].float()
    for row, number in enumerate(inputs["pixel_index"].tolist()):
        if number >= 0:
            pixels[row] = pool[number]
    has_image = inputs["indicators"].bool()
    loss = method.loss(ids.long(), labels.long(), slots, has_image, pixels)
    loss.backward()
    differences = [
        float((leaf.grad - gradient).abs().max())
        for name, leaf in leaves.items()
        if leaf.grad is not None
        for gradient in [recorded[f"grad.{name}"]]
    ]
    return {"loss": abs(loss.item() - expected), "gradients": max(differences)}


def _case(
    stem: Path, golden: Path, recorded: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], float, dict[str, Tensor]]:
    """Return a case's rows, loss and trained tensors."""
    if stem.name.startswith("D_"):
        trained = load_file(golden / "models" / "adapter_init.safetensors")
        return load_file(golden / "D_inputs.safetensors"), float(recorded["loss"]), trained
    details: Mapping[str, Any] = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    trained = {n.removeprefix("param."): t for n, t in recorded.items() if n.startswith("param.")}
    return recorded, details["loss"], trained


def _assemble(
    inputs: Mapping[str, Tensor], *, slot_tokens: int, prefixed: bool
) -> tuple[Tensor, Tensor, list[int]]:
    """Put the prefixes behind the first token, and cut rows to the incoming width."""
    with_image, without = inputs.get("prefix_img"), inputs.get("prefix_nonimg")
    width = inputs["examples"].shape[1]
    rows, row_labels, slots = [], [], []
    for ids, labels, shown in zip(
        inputs["examples"], inputs["labels"], inputs["indicators"], strict=True
    ):
        prefix = torch.zeros(0, dtype=ids.dtype)
        if prefixed and with_image is not None and without is not None:
            empty = torch.zeros(slot_tokens, dtype=ids.dtype)
            prefix = torch.cat([with_image, empty]) if shown else without
        rows.append(torch.cat([ids[:1], prefix, ids[1:]])[:width])
        row_labels.append(torch.cat([labels[:1], torch.zeros_like(prefix), labels[1:]])[:width])
        slots.append(1 + len(prefix) - slot_tokens if shown and slot_tokens else -1)
    return torch.stack(rows), torch.stack(row_labels), slots


def _llama(golden: Path) -> Llama:
    """Read the recorded model, its rotary pairs brought together by halves."""
    sizes = json.loads((golden / "models/weights/7B/params.json").read_text(encoding="utf-8"))
    meta = torch.load(golden / "models/weights/7B/consolidated.00.pth", weights_only=True)
    heads = sizes["n_heads"]
    names = {
        "wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj",
        "wo": "self_attn.o_proj", "w1": "mlp.gate_proj", "w2": "mlp.down_proj", "w3": "mlp.up_proj",
        "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
        "tok_embeddings": "embed_tokens",
    }  # fmt: skip
    state = {"lm_head.weight": meta.pop("output.weight")}
    for name, weight in meta.items():
        if name == "rope.freqs":
            continue
        parts = name.split(".")
        if parts[-2] in ("wq", "wk"):
            weight = weight.view(heads, -1, 2, weight.shape[1]).transpose(1, 2).flatten(0, 2)
        where = ".".join(parts[:2]) + "." if parts[0] == "layers" else ""
        state[f"model.{where}{names.get(parts[-2], parts[-2])}.weight"] = weight.float()
    return Llama(state, heads=heads, eps=sizes["norm_eps"])


def _tower(golden: Path, *, blocks: int) -> Tower:
    """Read the recorded tower; more blocks than it has repeat them."""
    file = load_file(golden / "models/clip_openai_format.safetensors")
    state = {n.removeprefix("visual."): t.float() for n, t in file.items() if "visual." in n}
    prefix = "transformer.resblocks."
    recorded = {name.split(".")[2] for name in state if name.startswith(prefix)}
    for block in range(len(recorded), blocks):
        same = f"{prefix}{block % len(recorded)}."
        state |= {n.replace(same, f"{prefix}{block}."): t for n, t in state.items() if same in n}
    return Tower(state, heads=state["ln_post.weight"].shape[0] // 64)


if __name__ == "__main__":
    sys.exit(main())
