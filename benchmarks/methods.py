"""Forward pass, training step and one-token inference of every method, in turn within one run.

    python benchmarks/methods.py                    # medium models on a CPU, LLaMA-7B's on a GPU
    python benchmarks/methods.py --llm tiny --turns 3

All methods get one frozen language model and one tower, random weights of real sizes, the same 4
rows of 256 tokens (each has its own vectors for the image besides) and the same 4 pictures: the
tower is part of every pass, with whatever a method trains in it. A turn takes every method once: it
is attached, warmed up, timed and taken off. Times are processor seconds on a CPU, wall time on a
GPU, medians over the turns. Ratios are to LLaVA-LoRA; the paper's are of its efficiency table, on 8
A800 with batches of its own. The report's 15 % and 3 % less time are the paper's ADEM-VL
against MemVP at 13B. With `--output FILE` the lines are written there, too.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from before_after_cases import sizes_of
from taking_turns import now

from ademvl.config.method import MethodSettings
from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import BackboneSettings, Precision
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.machine.precision import autocast
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.gated_xattn.settings import GatedXattnSettings
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.llava_lora.settings import LlavaLoraSettings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.planning.costs import sizes_with
from ademvl.planning.random_model import random_batch, random_images, random_llm, random_tower
from ademvl.planning.shapes import llm_shape, vision_shape
from ademvl.reporting.reported import load_reported
from ademvl.training.loss import token_losses
from ademvl.training.optimizer import build_optimizer

ROWS, TEXT, SCORED = 4, 256, 6
WORKS = ("forward", "training", "inference")
BASE = "LLaVA-LoRA"
PAPER = {"training": "train_s_per_batch", "inference": "infer_s_per_batch"}
Seconds = dict[tuple[str, str], list[float]]


def methods(num_blocks: int) -> Mapping[str, MethodSettings]:
    """Return every method; those with [cls] of several blocks take six, or all of fewer."""
    blocks = tuple(sorted({round((i + 1) * num_blocks / 6) - 1 for i in range(6)}))
    return {
        "ADEM-VL": AdemSettings(),
        "MemVP": MemvpSettings(),
        "LaVIN": LavinSettings(cls_blocks=blocks),
        BASE: LlavaLoraSettings(),
        "LLaMA-Adapter": LlamaAdapterSettings(cls_blocks=blocks),
        "LLaMA-Adapter V2": LlamaAdapterV2Settings(),
        "VL-Adapter": VlAdapterSettings(),
        "gated cross-attention": GatedXattnSettings(),
        "LoRA, sees no image": LoraSettings(),
    }


def main() -> None:
    """Measure, and print a line for each method and the ratios beside the paper's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--llm", choices=["tiny", "medium", "llama_7b"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--text", type=int, default=TEXT, help="tokens of a row")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(options.threads)
    llm = options.llm or ("llama_7b" if device.type == "cuda" else "medium")
    lines = [f"command: {shlex.join(['python', *sys.argv])}"]
    lines += [f"device: {torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu'}"]
    bench = Bench(llm, device, text=options.text)
    seconds: Seconds = {}
    with fast_cpu(device):
        for _ in range(options.turns):
            for name, settings in bench.methods.items():
                for work, taken in bench.measure(settings).items():
                    seconds.setdefault((name, work), []).append(taken)
    lines += report(seconds, list(bench.methods))
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Bench:
    """The frozen models, and what all methods are given."""

    def __init__(self, llm: str, device: torch.device, *, text: int) -> None:
        self._device, self._text = device, text
        self._precision: Precision = "fp16" if device.type == "cuda" else "fp32"
        if llm == "llama_7b":
            backbones = BackboneSettings(
                llm="llama_7b", tower="ViT-L-14-quickgelu", tower_weights="openai"
            )
            self._llm, self._vision = llm_shape(backbones), vision_shape(backbones)
        else:
            sizes = sizes_of(llm, online=True)
            self._llm, self._vision = sizes.llm, sizes.vision
        torch.manual_seed(0)
        self._decoder = random_llm(self._llm, self._precision, str(device))
        self._tower = random_tower(self._vision, str(device))
        self.methods = methods(self._vision.blocks)

    def measure(self, settings: MethodSettings) -> dict[str, float]:
        """Attach a method, time each kind of work once after a first time, and take it off."""
        sizes = sizes_with(settings, llm=self._llm, vision=self._vision, online=True)
        model = VisionLanguageModel(self._decoder, settings, self._tower)
        model.move_adapter(self._device)
        model.initialize(0)
        width = self._text + settings.text_places.with_image
        batch = random_batch(sizes, lengths=[width] * ROWS, scored=SCORED, image_rows=ROWS)
        images = random_images(sizes, ROWS)
        assert images is not None
        works = self._works(model, batch, images.to(self._device))
        try:
            found = {}
            for work in WORKS:
                works[work]()
                started = now(self._device)
                works[work]()
                found[work] = now(self._device) - started
            return found
        finally:
            model.detach()

    def _works(
        self, model: VisionLanguageModel, batch: Any, images: torch.Tensor
    ) -> dict[str, Callable[[], object]]:
        optimizer = build_optimizer(model.method, OptimizationSettings())

        def forward() -> object:
            model.train()
            with torch.no_grad(), autocast(self._device, self._precision):
                return model.labelled_logits(batch, images)

        def training() -> None:
            model.train()
            with autocast(self._device, self._precision):
                logits, targets, _ = model.labelled_logits(batch, images)
            token_losses(logits, targets).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        def inference() -> object:
            model.eval()
            with torch.inference_mode(), autocast(self._device, self._precision):
                return model.next_token_logits(batch, images)

        return dict(zip(WORKS, (forward, training, inference), strict=True))


def report(seconds: Seconds, names: list[str]) -> list[str]:
    """Render medians, ratios to LLaVA-LoRA, the paper's ratios, and what the paper claims."""
    medians = {key: statistics.median(taken) for key, taken in seconds.items()}
    paper = _paper_ratios()
    head = "".join(f"{work:>11} {'ratio':>6} {'paper':>6}" for work in WORKS)
    lines = [f"{'method':24}{head}"]
    for name in names:
        cells = ""
        for work in WORKS:
            ratio = medians[name, work] / medians[BASE, work]
            theirs = paper.get((name, work))
            printed = f"{theirs:6.2f}" if theirs else f"{'':6}"
            cells += f"{medians[name, work]:11.4f} {ratio:6.2f} {printed}"
        lines.append(f"{name:24}{cells}".rstrip())
    for work, claimed in (("training", 15), ("inference", 3)):
        gained = 1 - medians["ADEM-VL", work] / medians["MemVP", work]
        lines.append(
            f"ADEM-VL against MemVP, {work}: {abs(100 * gained):.0f} % "
            f"{'less' if gained > 0 else 'more'} time here; the report says {claimed} % less"
        )
    return lines


def _paper_ratios() -> dict[tuple[str, str], float]:
    table = load_reported().tables["efficiency"]
    rows = {row.method: row for row in table.rows if row.llm == "7B"}
    found = {}
    for work, column in PAPER.items():
        base = table.value(rows[BASE], column)
        for name, row in rows.items():
            value = table.value(row, column)
            if base and value:
                found[name, work] = value / base
    return found


if __name__ == "__main__":
    main()
