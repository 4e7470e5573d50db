"""Time and memory of one training step with random weights of real sizes, on the present device.

    python benchmarks/training_step.py             # LLaMA-7B on a GPU, a tiny model on a CPU
    python benchmarks/training_step.py --llm llama_13b --batch 2 --quantization int4
    python benchmarks/training_step.py --steps 3 --batch 2 --precision bf16 --output step.json

Each combination runs in a process of its own, so that its peak memory is its own: the model and the
optimiser of a training, real steps, one pass a step, every question with an image. Written are, in
benchmarks/results/ (JSON):

- seconds a step, median, and the slowest tenth; on a CPU processor time, as all machines do other
  things meanwhile;
- peak memory: of torch on a GPU, of the process on a CPU;
- operations a second, as ademvl/planning/flops.py counts them (with what checkpointing computes
  again), as a part of the card's published rate, and of what a large matrix product reaches here;
- what ran out of memory, and what was not measured.

4 bits need the extra `quantized`, and disk for the random weights while they are loaded.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import shlex
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from taking_turns import now

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import BackboneSettings
from ademvl.llm.loading import load_llm
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.machine.hardware import hardware
from ademvl.machine.precision import DTYPES
from ademvl.machine.usage import peak_memory_mib
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.planning.costs import sizes_with
from ademvl.planning.devices import gpu_by_name, present_gpu
from ademvl.planning.flops import training_flops
from ademvl.planning.out_of_memory import is_out_of_memory
from ademvl.planning.random_model import (
    random_example,
    random_images,
    random_llm,
    random_tower,
    tower_shape_of,
)
from ademvl.planning.rows import Row
from ademvl.planning.shapes import LlmShape, llm_shape, vision_shape
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics
from ademvl.runs.provenance import package_versions
from ademvl.storage.files import write_json
from ademvl.training.loop import Trainer
from ademvl.training.optimizer import build_optimizer
from ademvl.training.order import StepPlan

RESULTS = Path(__file__).parent / "results"
WARM_UP = 3
GEMM_TRIES = 8
GEMM_SIDE = {"cuda": 8192, "cpu": 1024}
TINY_LLM = LlmShape(
    width=256, ffn_width=688, layers=4, heads=4, kv_heads=4, head_dim=64, vocabulary=1000
)
TINY_VISION = dataclasses.replace(
    vision_shape(BackboneSettings(tower="ViT-L-14-quickgelu", tower_weights="openai")),
    width=128,
    blocks=4,
    head_width=32,
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One combination."""

    llm: str
    precision: str
    mode: str
    batch: int
    text: int
    checkpointing: bool
    quantization: str
    steps: int
    scored: int
    threads: int


def main() -> None:
    """Measure all combinations, print and write them."""
    options = _parse()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    llm = options.llm or ("llama_7b" if device == "cuda" else "tiny")
    cases = [
        Case(
            *(llm, precision, mode, batch, options.text, checkpointing == "on", quantization),
            *(options.steps, options.scored, options.threads),
        )
        for quantization, precision, mode, batch, checkpointing in itertools.product(
            options.quantization,
            options.precision,
            options.mode,
            options.batch,
            options.checkpointing,
        )
    ]
    gpu = gpu_by_name(options.gpu) if options.gpu else present_gpu()
    output = options.output or RESULTS / f"training_step_{llm}_{device}.json"
    rows: list[dict[str, Any]] = []
    for case in cases:
        row = dataclasses.asdict(case) | _in_child(_measure, case)
        if gpu is not None and "tflops" in row and case.precision in gpu.tflops:
            row["part_of_published_rate"] = row["tflops"] / gpu.tflops[case.precision]
        rows.append(row)
        print(_line(row), flush=True)
        content = {
            "command": shlex.join(["python", *sys.argv]),
            "hardware": hardware(),
            "packages": package_versions(),
            "published_rates_of": gpu.name if gpu else None,
            "not_measured": _not_measured(device, llm),
            "rows": rows,
        }
        write_json(output, content)  # each time, so that an early end loses nothing
    print(f"written to {output}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--llm", help="tiny, or a name of ademvl/planning/models.yaml")
    parser.add_argument("--precision", nargs="+", default=["fp16", "bf16"], choices=DTYPES)
    parser.add_argument(
        "--mode", nargs="+", default=["online", "cached"], choices=["online", "cached"]
    )
    parser.add_argument("--batch", nargs="+", type=int, default=[2, 4], help="per device")
    parser.add_argument("--text", type=int, default=256, help="tokens of a row")
    parser.add_argument("--scored", type=int, default=6, help="of them in the loss")
    parser.add_argument("--checkpointing", nargs="+", default=["off", "on"], choices=["off", "on"])
    parser.add_argument(
        "--quantization", nargs="+", default=["none", "int4"], choices=["none", "int8", "int4"]
    )
    parser.add_argument("--steps", type=int, default=20, help="measured, after some to warm up")
    parser.add_argument("--threads", type=int, default=1, help="on the CPU")
    parser.add_argument("--gpu", help="card whose published rates count, where not recognised")
    parser.add_argument("--output", type=Path, help="file to write")
    return parser.parse_args()


def _not_measured(device: str, llm: str) -> list[str]:
    if device == "cuda":
        return ["several GPUs: a step has one pass on one card", "decoding of images"]
    return [
        "any GPU: times and memory here say nothing of one",
        f"sizes other than {llm}: fusion and tower weigh more against a small language model",
        "decoding of images",
    ]


def _in_child(function: Any, *arguments: Any) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found: dict[str, Any] = pool.submit(function, *arguments).result()
    return found


def _measure(case: Case) -> dict[str, Any]:
    torch.set_num_threads(case.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = _sizes(case)
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(case, sizes, device, Path(folder))
        with fast_cpu(device):
            seconds = _time_steps(trainer, case, device)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return {"out_of_memory": True}
    flops = training_flops(
        sizes,
        Numerics(precision=case.precision, checkpointing=case.checkpointing),  # type: ignore[arg-type]
        MicroBatch(
            rows=case.batch,
            image_rows=case.batch,
            width=case.text,
            scored=case.batch * case.scored,
        ),
    ).total
    median = statistics.median(seconds)
    rate = flops / median / 1e12
    gemm = _gemm_tflops(case.precision, device)
    return {
        "out_of_memory": False,
        "seconds": median,
        "seconds_slowest_tenth": sorted(seconds)[-max(1, len(seconds) // 10)],
        "peak_memory_mib": _peak_mib(device),
        "tflop_per_step": flops / 1e12,
        "tflops": rate,
        "tflops_of_a_large_product": gemm,
        "part_of_a_large_product": rate / gemm,
        "skipped_steps": trainer.guard.skipped_steps + trainer.guard.overflow_steps,
    }


def _sizes(case: Case) -> ModelSizes:
    method = AdemSettings()
    backbones = BackboneSettings(tower="ViT-L-14-quickgelu", tower_weights="openai")
    llm, vision = TINY_LLM, TINY_VISION
    if case.llm != "tiny":
        llm = llm_shape(dataclasses.replace(backbones, llm=case.llm))
        vision = vision_shape(backbones)
    online = case.mode == "online"
    return sizes_with(method, llm=llm, vision=vision, online=online)


def _trainer(case: Case, sizes: ModelSizes, device: torch.device, folder: Path) -> Trainer:
    llm = _random_llm(sizes.llm, case, device, folder)
    tower = random_tower(sizes.vision, str(device)) if sizes.online else None
    shape = tower_shape_of(sizes.vision)
    model = VisionLanguageModel(llm, sizes.method, tower, tower_shape=shape)
    model.move_adapter(device)
    model.initialize(0)
    if case.checkpointing:
        model.enable_checkpointing()
    optimization = OptimizationSettings(
        epochs=float(WARM_UP + case.steps),
        warmup_epochs=0.0,
        effective_batch_size=case.batch,
        per_device_batch_size=case.batch,
        loss_group_size=min(2, case.batch),
    )
    parameters = dict(model.named_trainable_parameters())
    row = Row(width=case.text, scored=case.scored, has_image=True)
    return Trainer(
        model.train(),
        parameters,
        build_optimizer(model.method, optimization),
        rows=[random_example(sizes, row, number=number) for number in range(case.batch)],
        visual_source=_Images(sizes, case.batch),
        plan=StepPlan(case.batch, 0, optimization),
        precision=case.precision,  # type: ignore[arg-type]
    )


class _Images:
    """The same random pixels or features at every step."""

    def __init__(self, sizes: ModelSizes, number: int) -> None:
        self._images = random_images(sizes, number)

    def for_batch(self, batch: object, *, epoch: int = 0) -> torch.Tensor | None:
        return self._images


def _random_llm(shape: LlmShape, case: Case, device: torch.device, folder: Path) -> Any:
    """Make weights in their final precision; those in fewer bits are loaded from a folder."""
    torch.manual_seed(0)
    llm = random_llm(shape, case.precision, str(device))  # type: ignore[arg-type]
    if case.quantization == "none":
        return llm
    llm.save_pretrained(folder)
    del llm
    backbones = BackboneSettings(
        llm=str(folder),
        tower="ViT-L-14-quickgelu",
        tower_weights="openai",
        precision=case.precision,  # type: ignore[arg-type]
        quantization=case.quantization,  # type: ignore[arg-type]
    )
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return load_llm(backbones, device=None if device.type == "cpu" else device)


def _time_steps(trainer: Trainer, case: Case, device: torch.device) -> list[float]:
    seconds = []
    for step in range(WARM_UP + case.steps):
        if step == WARM_UP and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        started = now(device)
        trainer.step(step)
        seconds.append(now(device) - started)
    return seconds[WARM_UP:]


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_memory_mib()


def _gemm_tflops(precision: str, device: torch.device) -> float:
    """Return the best of some large square products, as frozen layers compute them."""
    side = GEMM_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))  # type: ignore[index]
    best = float("inf")
    with fast_cpu(device):
        for _ in range(GEMM_TRIES):
            started = now(device)
            torch.nn.functional.linear(left, right)
            best = min(best, now(device) - started)
    return 2 * side**3 / best / 1e12


def _line(row: dict[str, Any]) -> str:
    checkpointing = "checkpointing" if row["checkpointing"] else "-"
    name = (
        f"{row['llm']:10} {row['precision']} {row['quantization']:5} {row['mode']:6} "
        f"batch {row['batch']} {checkpointing:13}"
    )
    if row["out_of_memory"]:
        return f"{name} out of memory"
    part = row.get("part_of_published_rate", row["part_of_a_large_product"])
    return (
        f"{name} {row['seconds']:8.3f} s/step {row['peak_memory_mib'] / 1024:7.2f} GiB "
        f"{row['tflops']:8.2f} TFLOP/s {100 * part:5.1f} %"
    )


if __name__ == "__main__":
    main()
