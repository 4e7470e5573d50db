"""What `ademvl plan` predicts, beside what is measured and what the paper reports.

    OMP_NUM_THREADS=1 python benchmarks/plan_predictions.py
    OMP_NUM_THREADS=1 python benchmarks/plan_predictions.py --only published

small       real steps of small models on the CPU: peak memory of tensors (torch's dispatcher sees
            every storage) and operations (torch's FlopCounterMode)
quantized   the same with a Llama in 8 and 4 bits, through bitsandbytes on the CPU; before the
            optimiser's first step
full        LLaMA-7B and 13B at full size on the `meta` device, which has shapes but no memory; it
            has no fused attention either, so the T x T scores are kept there and not on a GPU
methods     MemVP, whose costs are measured: real steps of small models, as in `small`; at full
            size what its layers keep, from few of them and from all, and what measuring takes
seconds     training steps on real data of a small easy-VQA set, beside the probe
published   the efficiency table of the paper (arXiv 2410.17779), beside the formulas
"""

import argparse
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.config.run import BackboneSettings, Precision, Quantization
from ademvl.config.study import load_study
from ademvl.llm.loading import load_llm
from ademvl.methods.adem.settings import AdemSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.planning import measured, measured_steps
from ademvl.planning.costs import costs_of, sizes_with
from ademvl.planning.devices import gpu_by_name
from ademvl.planning.flops import evaluation_flops, training_flops
from ademvl.planning.layer_kinds import LayerKind
from ademvl.planning.memory import training_memory
from ademvl.planning.plans import Target
from ademvl.planning.random_model import (
    build_random_model,
    random_batch,
    random_images,
    tower_shape_of,
)
from ademvl.planning.shapes import LlmShape, VisionShape, known_models, llm_shape, vision_shape
from ademvl.planning.sizes import MicroBatch, ModelSizes, Numerics
from ademvl.planning.study_plan import plan_study
from ademvl.planning.workload import workload_of
from ademvl.probing.measure import TensorMemory, values_unknown
from ademvl.probing.probe import probe_run
from ademvl.reporting.reported import load_reported
from ademvl.training.loss import token_losses

ROOT = Path(__file__).parents[1]
SCORED = 7
QUANTIZATIONS: tuple[Quantization, ...] = ("none", "int8", "int4")
_FULL_CASES: tuple[tuple[str, Precision, bool], ...] = (
    ("cached", "bf16", False),
    ("cached", "bf16", True),
    ("online", "fp32", False),
)
_HEADERS = ("model, mode, precision", "B x T, images")
STEPS, WARM_UP = 40, 5
TINY = LlmShape(width=96, ffn_width=256, layers=3, heads=6, kv_heads=2, head_dim=16, vocabulary=300)
TINY_TOWER = VisionShape(width=64, blocks=4, image_size=32, patch_size=8, head_width=16)
TINY_METHOD = AdemSettings(
    scales=(16, 4), projection_width=16, clip_adapter=ClipAdapterSettings(dim=4)
)
MINI_METHOD = AdemSettings(scales=(64, 16))


def main() -> None:
    """Parse the options, print the tables."""
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "small": small,
        "quantized": quantized,
        "full": full,
        "methods": methods,
        "seconds": seconds,
        "published": published,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(parts), action="append", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("command:", shlex.join(["python", *sys.argv]))
    print(f"torch {torch.__version__}, {platform.machine()}, 1 thread")
    for name, part in parts.items():
        if not options.only or name in options.only:
            print(f"\n{name}")
            for line in part():
                print(line, flush=True)


def small() -> Iterator[str]:
    """Compare memory and operations of real steps."""
    mini = llm_shape(BackboneSettings()), vision_shape(BackboneSettings()), MINI_METHOD
    yield from _real_steps({"tiny": (TINY, TINY_TOWER, TINY_METHOD), "mini": mini})


def _real_steps(
    models: Mapping[str, tuple[LlmShape, VisionShape, MethodSettings]],
) -> Iterator[str]:
    yield _row(*_HEADERS, "MiB", "predicted", "", "GFLOP", "predicted", "")
    for name, (llm, vision, method) in models.items():
        for mode, precision, checkpointing, rows, width, image_rows in _cases():
            sizes = sizes_with(method, llm=llm, vision=vision, online=mode == "online")
            numerics = Numerics(precision=precision, checkpointing=checkpointing)
            batch = MicroBatch(rows=rows, image_rows=image_rows, width=width, scored=rows * SCORED)
            peak, flops, _ = measure_step(sizes, numerics, batch, device="cpu")
            label = f"{name}, {mode}, {precision}" + (", checkpointing" if checkpointing else "")
            yield _compared(sizes, numerics, batch, label, peak=peak, flops=flops, unit=2**20)


def _cases() -> Iterator[tuple[str, Precision, bool, int, int, int]]:
    yield "cached", "fp32", False, 1, 40, 1
    yield "cached", "fp32", False, 16, 50, 12
    yield "cached", "fp32", False, 4, 200, 2
    yield "cached", "fp32", False, 8, 60, 0
    yield "cached", "bf16", False, 16, 50, 12
    yield "online", "fp32", False, 1, 40, 1
    yield "online", "fp32", False, 16, 50, 12
    yield "online", "fp32", False, 4, 200, 2
    yield "online", "bf16", False, 16, 50, 12
    yield "cached", "fp32", True, 16, 50, 12
    yield "cached", "fp32", True, 4, 200, 4
    yield "online", "fp32", True, 4, 200, 4
    yield "online", "bf16", True, 16, 50, 12


def quantized() -> Iterator[str]:
    """Compare memory of a language model that bitsandbytes quantised."""
    from transformers import LlamaConfig, LlamaForCausalLM

    vision = vision_shape(BackboneSettings())
    heads = f"{'quantization':14} {'B x T':10} {'MiB':>8} {'predicted':>10} {'':>7}"
    yield f"{heads} {'weights':>9} predicted"
    with tempfile.TemporaryDirectory() as folder:
        config = LlamaConfig(
            vocab_size=512,
            hidden_size=512,
            intermediate_size=1408,
            num_hidden_layers=4,
            num_attention_heads=8,
            bos_token_id=1,
            eos_token_id=2,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
        for quantization in QUANTIZATIONS:
            backbones = BackboneSettings(llm=folder, precision="bf16", quantization=quantization)
            sizes = sizes_with(MINI_METHOD, llm=llm_shape(backbones), vision=vision, online=False)
            numerics = Numerics(precision="bf16", quantization=quantization)
            for rows, width in ((1, 16), (4, 100)):
                batch = MicroBatch(rows=rows, image_rows=rows, width=width, scored=rows * SCORED)
                weights, peak = _measure_quantized(backbones, sizes, batch)
                memory = training_memory(sizes, numerics, batch, device="cpu")
                predicted = memory.tensors - memory.optimizer
                yield (
                    f"{quantization:14} {f'{rows} x {width}':10} {peak / 2**20:8.2f} "
                    f"{predicted / 2**20:10.2f} {predicted / peak - 1:+7.1%} "
                    f"{weights / 2**20:9.2f} {memory.llm_weights / 2**20:9.2f}"
                )


def _measure_quantized(
    backbones: BackboneSettings, sizes: ModelSizes, batch: MicroBatch
) -> tuple[int, int]:
    """Return the bytes of the frozen weights, and the peak of a step."""
    llm = load_llm(backbones)
    model = VisionLanguageModel(llm, sizes.method, tower_shape=tower_shape_of(sizes.vision))
    model.initialize(0)
    model.train()
    rows = random_batch(
        sizes, lengths=[batch.width] * batch.rows, scored=SCORED, image_rows=batch.image_rows
    )
    images = random_images(sizes, batch.image_rows)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, targets, _ = model.labelled_logits(rows, images)
        token_losses(logits, targets).mean().backward()
        for _, parameter in model.named_trainable_parameters():
            parameter.grad = None

    step()
    with TensorMemory() as memory:
        memory.add(_frozen_tensors(llm))
        weights = memory.live_bytes
        memory.add([*model.method.parameters(), *([] if images is None else [images])])
        step()
    return weights, memory.peak_bytes


def _frozen_tensors(llm: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Give all weights, and what bitsandbytes keeps beside them."""
    for weight in llm.parameters():
        if not weight.requires_grad:
            yield weight.data
        state = getattr(weight, "quant_state", None)
        if state is not None:
            yield state.absmax
            yield state.state2.absmax
    for module in llm.modules():
        scales = getattr(getattr(module, "state", None), "SCB", None)
        if scales is not None:
            yield scales


def full() -> Iterator[str]:
    """Compare memory and operations at the paper's size."""
    vision = vision_shape(BackboneSettings(tower="ViT-L-14-quickgelu"))
    # Dropout draws from generators, which `meta` has not.
    method = AdemSettings(clip_adapter=ClipAdapterSettings(dropout=0.0))
    yield _row(*_HEADERS, "GiB", "predicted", "", "TFLOP", "predicted", "")
    for name in ("llama_7b", "llama_13b"):
        for mode, precision, checkpointing in _FULL_CASES:
            sizes = sizes_with(
                method, llm=known_models()[name], vision=vision, online=mode == "online"
            )
            numerics = Numerics(precision=precision, checkpointing=checkpointing)
            batch = MicroBatch(rows=4, image_rows=2, width=256, scored=4 * SCORED)
            peak, flops, _ = measure_step(sizes, numerics, batch, device="meta")
            label = f"{name}, {mode}, {precision}" + (", checkpointing" if checkpointing else "")
            yield _compared(sizes, numerics, batch, label, peak=peak, flops=flops, unit=2**30)


def methods() -> Iterator[str]:
    """Compare what is measured of MemVP with real steps, and few layers with all of them."""
    method = MemvpSettings(table_rows=64, projection_width=16)
    mini = llm_shape(BackboneSettings()), vision_shape(BackboneSettings()), method
    yield from _real_steps({"tiny": (TINY, TINY_TOWER, method), "mini": mini})
    vision = vision_shape(BackboneSettings(tower="ViT-L-14-quickgelu"))
    batch = MicroBatch(rows=4, image_rows=2, width=256, scored=4 * SCORED)
    heads = f"{'first run':>9} {'others':>7} {'GiB kept':>9} {'all layers':>11}"
    yield f"{'processor seconds':34} {heads}"
    for name, rows in (("llama_7b", 320), ("llama_13b", 400)):
        for online in (False, True):
            seconds: list[float] = []
            for _ in range(2):  # imports and first calls of each operator count once
                sizes = sizes_with(
                    MemvpSettings(table_rows=rows),
                    llm=known_models()[name],
                    vision=vision,
                    online=online,
                )
                measured._measured.clear()
                started = time.process_time()
                few = _kept_of_layers(sizes, batch)
                evaluation_flops(sizes, batch, new_tokens=4)
                seconds.append(time.process_time() - started)
            yield (
                f"{name + (', online' if online else ', cached'):34} {seconds[0]:9.1f} "
                f"{seconds[1]:7.1f} {few / 2**30:9.4f} {_kept_of_all_layers(sizes, batch):11.4f}"
            )


def _kept_of_layers(sizes: ModelSizes, batch: MicroBatch) -> int:
    return costs_of(sizes).kept(Numerics(precision="bf16"), batch, device="cpu").layers


def _kept_of_all_layers(sizes: ModelSizes, batch: MicroBatch) -> float:
    """Measure with all layers, none of which stands for another; in GiB."""
    measured._measured.clear()
    each = [LayerKind(n, False, (n,)) for n in range(sizes.llm.layers)]
    with patch.object(measured_steps, "layer_kinds", lambda method, llm: each):
        kept = _kept_of_layers(sizes, batch)
    measured._measured.clear()
    return kept / 2**30


def measure_step(
    sizes: ModelSizes, numerics: Numerics, batch: MicroBatch, *, device: str
) -> tuple[int, int, int]:
    """Return peak bytes of tensors, operations of a step after the first, trained parameters."""
    model = build_random_model(sizes, numerics, device=device)
    parameters = [parameter for _, parameter in model.named_trainable_parameters()]
    optimizer = torch.optim.AdamW(parameters)
    rows = random_batch(
        sizes,
        lengths=[batch.width] * batch.rows,
        scored=batch.scored // batch.rows,
        image_rows=batch.image_rows,
    )
    images = random_images(sizes, batch.image_rows)
    images = images if images is None else images.to(device)
    is_cast = numerics.precision == "bf16" and device == "cpu"

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_cast):
            logits, targets, _ = model.labelled_logits(rows, images)
        token_losses(logits, targets).mean().backward()

    with values_unknown():
        with TensorMemory() as memory:
            memory.add([*model.parameters(), *([] if images is None else [images])])
            step()
            optimizer.step()
            optimizer.zero_grad()
            memory.reset_peak()
            step()
        optimizer.zero_grad()
        with FlopCounterMode(display=False) as counter:
            step()
    trained = sum(parameter.numel() for parameter in parameters)
    return memory.peak_bytes, counter.get_total_flops(), trained


def seconds() -> Iterator[str]:
    """Compare the probe with training on real data, in processor time of one thread."""
    from ademvl.machine.cpu_kernels import fast_cpu
    from ademvl.tasks.layout import make_dataset
    from ademvl.training.run import build_trainer

    yield f"{'run':14} {'ms an item':>11} {'by the probe':>13} {'ratio':>6}"
    with tempfile.TemporaryDirectory() as folder:
        study = load_study(_smoke_study(folder))
        [(name, dataset)] = study.settings.datasets.items()
        make_dataset(Path(f"{folder}/shared/data/{name}/manifest.json"), dataset)
        for run in study.runs:
            trainer = build_trainer(run, progress=False)
            rows = workload_of(run, dataset).training.rows
            spent, items = 0.0, 0
            with fast_cpu():
                for step in range(STEPS):
                    started = time.process_time()
                    result = trainer.step(step)
                    if step >= WARM_UP:
                        spent, items = (
                            spent + time.process_time() - started,
                            items + result.num_items,
                        )
            rate = probe_run(run, rows, budget_seconds=10.0, clock=time.process_time)
            if rate is None:
                continue
            plan = plan_study(study, Target(), {run.name: rate})
            per_item = next(each for each in plan.runs if each.name == run.name)
            probed = per_item.flops.training_per_item / rate.flops_per_second
            yield (
                f"{run.name:14} {1e3 * spent / items:11.2f} {1e3 * probed:13.2f} "
                f"{probed * items / spent:6.2f}"
            )


def _smoke_study(folder: str) -> dict[str, object]:
    text = (ROOT / "workflow/studies/smoke.yaml").read_text(encoding="utf-8")
    study: dict[str, object] = yaml.safe_load(text)
    return {**study, "results_dir": f"{folder}/results", "shared_dir": f"{folder}/shared"}


def published() -> Iterator[str]:
    """Compare the formulas with the paper's efficiency table; its times are of 8 A800 cards."""
    table = load_reported().tables["efficiency"]
    rows = {row.name: dict(zip(table.columns, row.values, strict=True)) for row in table.rows}
    yield "TFLOPs for one new token behind a text of 256, one item"
    yield f"  {'':8} {'paper':>8} {'forward':>9} {'paper / forward':>16}"
    counted = {}
    for llm in ("7B", "13B"):
        counted[llm] = _forward_of_text(f"llama_{llm.lower()}")
        paper = rows[f"ADEM-VL, {llm}"]["tflops"] or 0.0
        yield f"  {llm:8} {paper:8.2f} {counted[llm]:9.3f} {paper / counted[llm]:16.1f}"
    printed = (rows["ADEM-VL, 13B"]["tflops"] or 0.0) / (rows["ADEM-VL, 7B"]["tflops"] or 1.0)
    yield f"  13B / 7B {printed:8.2f} {counted['13B'] / counted['7B']:9.3f}"
    visual = (rows["LLaVA-LoRA, 7B"]["tflops"] or 0.0) / (rows["ADEM-VL, 7B"]["tflops"] or 1.0)
    longer = _forward_of_text("llama_7b", width=512) / counted["7B"]
    yield f"  LLaVA-LoRA / ADEM-VL, 256 tokens more: paper {visual:.2f}, forward {longer:.2f}"
    steps, a_batch = 7_940, rows["ADEM-VL, 7B"]["train_s_per_batch"] or 0.0
    yield (
        f"  {a_batch} s a batch, were it one of 32 items on 8 cards, times {steps:,} steps: "
        f"{a_batch * steps * 8 / 3600:.1f} GPU hours; the paper prints "
        f"{rows['ADEM-VL, 7B']['scienceqa_gpu_h']}"
    )
    yield "GPU hours of a training, without evaluation"
    heads = ("paper", "plan at 30 %", "15 % to 45 %", "part of the rate")
    yield f"  {'run':16} {heads[0]:>7} {heads[1]:>13} {heads[2]:>15} {heads[3]:>17}"
    gpu = gpu_by_name("A800")
    for llm in ("7b", "13b"):
        study = load_study(ROOT / f"workflow/studies/paper-{llm}.yaml")
        plan = plan_study(study, Target(gpu=gpu, count=8))
        for run, column in (
            (f"scienceqa_{llm}", "scienceqa_gpu_h"),
            (f"captions_{llm}", "coco_gpu_h"),
            (f"instruction_{llm}", "instruction_gpu_h"),
        ):
            planned = next(each for each in plan.runs if each.name == run)
            paper = rows[f"ADEM-VL, {llm.upper()}"][column] or 0.0
            if planned.seconds is None:
                continue
            hours = planned.seconds.training.times(8 / 3600)
            implied = planned.flops.training / (paper * 3600 * gpu.rate("fp16"))
            yield (
                f"  {run:16} {paper:7.1f} {hours.expected:13.1f} "
                f"{f'{hours.low:.1f} to {hours.high:.1f}':>15} {implied:17.0%}"
            )
    yield "  the paper's batches are padded less evenly, and its instructions are more than assumed"


def _forward_of_text(name: str, *, width: int = 256) -> float:
    """Count the forward pass of one item with an image, in TFLOPs, output layer at one place."""
    vision = vision_shape(BackboneSettings(tower="ViT-L-14-quickgelu"))
    sizes = sizes_with(AdemSettings(), llm=known_models()[name], vision=vision, online=True)
    batch = MicroBatch(rows=1, image_rows=1, width=width, scored=1)
    return evaluation_flops(sizes, batch, new_tokens=1) / 1e12


def _compared(
    sizes: ModelSizes,
    numerics: Numerics,
    batch: MicroBatch,
    label: str,
    *,
    peak: int,
    flops: int,
    unit: int,
) -> str:
    memory = training_memory(sizes, numerics, batch, device="cpu").tensors
    predicted = training_flops(sizes, numerics, batch).total
    giga = 1e9 if unit == 2**20 else 1e12
    return _row(
        label,
        f"{batch.rows} x {batch.width}, {batch.image_rows}",
        f"{peak / unit:.2f}",
        f"{memory / unit:.2f}",
        f"{memory / peak - 1:+.1%}",
        f"{flops / giga:.4g}",
        f"{predicted / giga:.4g}",
        f"{predicted / flops - 1:+.1%}",
    )


def _row(*cells: str) -> str:
    widths = (40, 15, 9, 10, 7, 9, 10, 7)
    first, *rest = (
        cell.ljust(width) if place < 2 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return " ".join([first, *rest]).rstrip()


if __name__ == "__main__":
    main()
