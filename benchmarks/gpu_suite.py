"""Time and memory on one large GPU, beside the plain implementation, in one run under ten minutes.

    python benchmarks/gpu_suite.py                  # LLaMA-7B and CLIP ViT-L/14, random weights
    python benchmarks/gpu_suite.py --small          # the tiny models, to see on a CPU that it works

Training steps of ADEM-VL, MemVP and LaVIN (4 rows of 128 tokens, adapters inside the tower; two and
four pictures), of ADEM-VL with features given, encoding of pictures, and answers to questions with
features given: 240 rows of mixed length, in batches by length and in plain ones in the given order.
Both sides share the frozen weights and take turns. Written is one file in benchmarks/results/, with
seconds (medians over the turns), their ratio, and on a GPU the peak memory of each side beyond the
weights. bf16 on a GPU, fp32 on a CPU, where seconds are the processor's.
"""

import argparse
import dataclasses
import random
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from before_after_cases import make_trainer, sizes_of, stepping
from plain.methods import PlainAdem
from plain.models import Llama, Tower
from plain_steps import METHODS, PlainStep, padded_in_front
from taking_turns import now
from torch import Tensor

from ademvl.config.run import BackboneSettings, Precision
from ademvl.data.batching import batches_by_length
from ademvl.data.collate import collate
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.machine.hardware import hardware
from ademvl.machine.precision import autocast
from ademvl.planning.costs import sizes_with
from ademvl.planning.random_model import random_example, random_images
from ademvl.planning.rows import Row
from ademvl.planning.shapes import llm_shape, vision_shape
from ademvl.released import reference_names
from ademvl.runs.provenance import package_versions
from ademvl.storage.files import write_json

RESULTS = Path(__file__).parent / "results"
ENCODED = 32
QUESTIONS, PLAIN_BATCH = 240, 64
LENGTHS = (40, 324)
"""Tokens of the shortest and the longest question: those of ScienceQA's test split."""
Work = Callable[[], object]


def main() -> None:
    """Measure everything, print a line each, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the tiny models")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision: Precision = "bf16" if device.type == "cuda" else "fp32"
    measured: dict[str, object] = {}
    print(f"{'case':28} {'plain s':>9} {'ours s':>9} {'ratio':>6}")
    with fast_cpu(device):
        for name, online, num_images in (
            ("adem", True, 4),
            ("adem", True, 2),
            ("memvp", True, 4),
            ("memvp", True, 2),
            ("lavin", True, 4),
            ("lavin", True, 2),
            ("adem", False, 4),
        ):
            if name == "lavin" and options.small:
                name = "lavin, 4 blocks"
            sizes = _sizes(name, online=online, small=options.small)
            trainer, images = make_trainer(
                sizes, num_images=num_images, text=128, device=str(device), precision=precision
            )
            plain = PlainStep(name, trainer, images, sizes, precision=precision)
            mode = "online" if online else "cached"
            case = f"step {name} {mode} {num_images} of 4"
            measured[case] = _measure(case, stepping(trainer), plain, options.turns, device)
            others: list[tuple[str, Work, Work]] = []
            if name == "adem" and online and num_images == 4:
                others.append(("encoding", *_encoding(trainer.model, sizes, device, precision)))
            if not online:
                others.append(("answering", *_answering(trainer.model, sizes, device, precision)))
            for case, ours, other in others:
                measured[case] = _measure(case, ours, other, options.turns, device)
            del trainer, plain, others
    kind = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    size = "small" if options.small else "7b"
    file_name = f"gpu_suite_{size}_{kind.replace(' ', '_')}.json"
    output = options.output or RESULTS / file_name
    write_json(
        output,
        {
            "command": shlex.join(["python", *sys.argv]),
            "hardware": hardware(),
            "packages": package_versions(),
            "precision": precision,
            "measured": measured,
        },
    )
    print(f"written: {output}")


def _sizes(name: str, *, online: bool, small: bool) -> Any:
    method = METHODS[name][0]
    if small:
        return sizes_of("tiny", online=online, method=method)
    backbones = BackboneSettings(llm="llama_7b", tower="ViT-L-14-quickgelu", tower_weights="openai")
    return sizes_with(
        method, llm=llm_shape(backbones), vision=vision_shape(backbones), online=online
    )


def _encoding(
    model: Any, sizes: Any, device: torch.device, precision: Precision
) -> tuple[Work, Work]:
    """Encode pictures without adapters, as extraction does."""
    pixels = random_images(dataclasses.replace(sizes, online=True), ENCODED)
    assert pixels is not None
    pixels = pixels.to(device)
    tower = model.tower
    plain_tower = Tower(
        tower.visual.state_dict(), heads=sizes.vision.width // sizes.vision.head_width
    )
    bare = PlainAdem(None, plain_tower, {})  # type: ignore[arg-type]

    def ours() -> Tensor:
        with torch.inference_mode(), autocast(device, precision):
            return tower.encode(pixels, model.method.settings.tower_states)

    def plain() -> Tensor:
        number = len(plain_tower.attentions) - 1
        with torch.inference_mode(), autocast(device, precision):
            return plain_tower.norm(plain_tower.blocks(pixels, bare, number=number)[-1], "ln_post")

    return ours, plain


def _answering(
    model: Any, sizes: Any, device: torch.device, precision: Precision
) -> tuple[Work, Work]:
    """Answer questions of mixed length with features given."""
    generator = random.Random(0)
    rows = [
        random_example(
            sizes,
            Row(width=generator.randint(*LENGTHS), scored=1, has_image=generator.random() < 0.5),
            number=number,
        )
        for number in range(QUESTIONS)
    ]
    picture = random_images(sizes, 1)
    assert picture is not None
    picture = picture.to(device)
    trained = reference_names.to_reference(model.adapter_state_dict())
    llm = Llama(model.llm.state_dict(), heads=sizes.llm.heads, eps=model.llm.config.rms_norm_eps)
    plain_method = PlainAdem(
        llm,
        None,
        {name: tensor.to(device) for name, tensor in trained.items()},
    )

    def ours() -> None:
        model.eval()
        for numbers in batches_by_length([len(row.ids) for row in rows], max_rows=PLAIN_BATCH):
            batch = collate([rows[number] for number in numbers], trim_after_labels=False)
            shown = int(batch.has_image.sum())
            features = picture.expand(shown, -1, -1) if shown else None
            with torch.inference_mode(), autocast(device, precision):
                model.next_token_logits(batch, features).argmax(-1).tolist()

    def plain() -> None:
        for first in range(0, len(rows), PLAIN_BATCH):
            some = rows[first : first + PLAIN_BATCH]
            features = picture.float().expand(len(some), -1, -1)
            with autocast(device, precision):
                plain_method.answers(*padded_in_front(some, device), features).tolist()

    return ours, plain


def _measure(
    case: str, ours: Work, plain: Work, turns: int, device: torch.device
) -> dict[str, float]:
    sides = {"ours": ours, "plain": plain}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    peaks: dict[str, float] = {}
    for work in sides.values():
        work()  # warms up
    for _ in range(turns):
        for side, work in sides.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            started = now(device)
            work()
            seconds[side].append(now(device) - started)
            if device.type == "cuda":
                peaks[f"{side}_peak_mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
    medians = {side: statistics.median(taken) for side, taken in seconds.items()}
    ratio = medians["plain"] / medians["ours"]
    print(f"{case:28} {medians['plain']:9.4f} {medians['ours']:9.4f} {ratio:6.2f}", flush=True)
    return {f"{side}_seconds": taken for side, taken in medians.items()} | {"ratio": ratio} | peaks


if __name__ == "__main__":
    main()
