"""What benchmarks/before_after.py measures; each case runs with the package of either side.

Started by it as a process of its own: makes the case ready, then runs it once for each line that it
reads, and answers with a line of JSON.
"""

import dataclasses
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Figures = Sequence[float]
Work = Callable[[], Figures]
"""Does the work once, and returns figures that both sides must agree on."""


def _tower_forward() -> Work:
    """Encode 8 images in inference, as extraction does."""
    import torch

    tower, pixels = _medium_tower(num_images=8)

    def work() -> Figures:
        with torch.inference_mode():
            return [float(tower.encode(pixels).double().square().mean())]

    return work


def _tower_backward() -> Work:
    """Encode 4 images and go back to their pixels, as a training with adapters inside does."""
    tower, pixels = _medium_tower(num_images=4)
    pixels.requires_grad_()

    def work() -> Figures:
        pixels.grad = None
        states = tower.encode(pixels)
        states.double().square().mean().backward()
        return [float(states.detach().double().mean()), float(pixels.grad.double().norm())]

    return work


def _medium_tower(*, num_images: int) -> tuple[Any, Any]:
    import torch

    from ademvl.planning.random_model import random_images, random_tower

    sizes = _sizes("medium", online=True)
    torch.manual_seed(0)
    return random_tower(sizes.vision, "cpu"), random_images(sizes, num_images)


def _step(llm: str, *, online: bool, num_images: int = 4, text: int = 128) -> Callable[[], Work]:
    """Make a case of training steps on 4 rows, the first `num_images` of them with an image."""

    def prepare() -> Work:
        import torch

        from ademvl.config.optimization import OptimizationSettings
        from ademvl.model.vision_language import VisionLanguageModel
        from ademvl.planning.random_model import (
            random_example,
            random_images,
            random_llama,
            random_tower,
            tower_shape_of,
        )
        from ademvl.planning.rows import Row
        from ademvl.training.loop import Trainer
        from ademvl.training.optimizer import build_optimizer
        from ademvl.training.order import StepPlan

        sizes = _sizes(llm, online=online)
        torch.manual_seed(0)
        model = VisionLanguageModel(
            random_llama(sizes.llm, "fp32", "cpu"),
            sizes.method,
            random_tower(sizes.vision, "cpu") if online else None,
            tower_shape=tower_shape_of(sizes.vision),
        )
        model.initialize(0)
        optimization = OptimizationSettings(
            epochs=100.0, warmup_epochs=0.0, effective_batch_size=4, per_device_batch_size=4
        )
        images = random_images(sizes, num_images)

        class Images:
            def for_batch(self, batch: object, *, epoch: int = 0) -> torch.Tensor | None:
                return images

        rows = [
            random_example(
                sizes, Row(width=text, scored=6, has_image=number < num_images), number=number
            )
            for number in range(4)
        ]
        trainer = Trainer(
            model.train(),
            dict(model.named_trainable_parameters()),
            build_optimizer(model.method, optimization),
            rows=rows,
            visual_source=Images(),
            plan=StepPlan(4, 0, optimization),
            precision="fp32",
        )
        steps = iter(range(100))

        def work() -> Figures:
            found = trainer.step(next(steps))
            return [float(found.loss), float(found.grad_norm)]

        return work

    return prepare


def _sizes(llm: str, *, online: bool) -> Any:
    from ademvl.config.run import BackboneSettings
    from ademvl.methods.adem.settings import AdemSettings
    from ademvl.planning.costs import sizes_with
    from ademvl.planning.shapes import LlmShape, vision_shape

    backbones = BackboneSettings(tower="ViT-L-14-quickgelu", tower_weights="openai")
    vision = dataclasses.replace(vision_shape(backbones), blocks=6)
    shape = LlmShape(
        width=1024, ffn_width=2752, layers=8, heads=16, kv_heads=16, head_dim=64, vocabulary=32000
    )
    if llm == "tiny":
        vision = dataclasses.replace(vision, width=128, blocks=4, head_width=32)
        shape = LlmShape(
            width=256, ffn_width=688, layers=4, heads=4, kv_heads=4, head_dim=64, vocabulary=1000
        )
    return sizes_with(AdemSettings(), llm=shape, vision=vision, online=online)


CASES: dict[str, Callable[[], Work]] = {
    "tower_forward": _tower_forward,
    "tower_forward_backward": _tower_backward,
    "step_tiny_online": _step("tiny", online=True, text=256),
    "step_medium_online": _step("medium", online=True),
    "step_medium_online_2_of_4": _step("medium", online=True, num_images=2),
    "step_medium_cached": _step("medium", online=False),
}


def main() -> None:
    """Serve one case."""
    case, threads, code = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    import torch

    import ademvl
    from ademvl.machine.cpu_kernels import fast_cpu

    found = Path(ademvl.__file__).resolve().parents[1]
    if found != code.resolve():
        sys.exit(f"ademvl comes from {found}, expected {code}")
    torch.set_num_threads(threads)
    with fast_cpu(torch.device("cpu")):
        work = CASES[case]()
        work()  # warms up
        print("ready", flush=True)
        for _ in sys.stdin:
            started = time.process_time()
            figures = work()
            seconds = time.process_time() - started
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer = {"seconds": seconds, "figures": list(figures), "peak_mib": peak}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
