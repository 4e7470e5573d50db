"""What a training step of the medium models is made of, beside what the processor can do at most.

    python benchmarks/step_profile.py --threads 1

For features online (adapters inside the tower, 4 images) and given: processor seconds of a step
(median), its operations as ademvl/planning/flops.py counts them, their rate as a part of what a
large product of matrices reaches here in between, and the share of each kind of work in the step
(torch's profiler).
"""

import argparse
import shlex
import statistics
import sys
import time
from collections import Counter

import torch
from before_after_cases import make_trainer, sizes_of

from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.planning.flops import training_flops
from ademvl.planning.sizes import MicroBatch, Numerics

SIDE = 1024
ROWS, TEXT, SCORED = 4, 128, 6
KINDS = {
    "_linear_pointwise": "products with frozen matrices",
    "flash_attention": "attention",
    "::mm": "products of the method, and others",
    "::bmm": "products of the method, and others",
    "::addmm": "products of the method, and others",
    "::baddbmm": "products of the method, and others",
    "convolution": "products of the method, and others",
    "::copy_": "copies and memory",
    "::cat": "copies and memory",
    "::fill_": "copies and memory",
}
"""What operators are, by a part of their names; all others work element by element."""
OTHERS = "norms, activations and all else"


def main() -> None:
    """Print a block for each kind of features."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"command: {shlex.join(['python', *sys.argv])}")
    with fast_cpu(torch.device("cpu")):
        for online in (True, False):
            for line in _measured(online=online, steps=options.steps):
                print(line, flush=True)


def _measured(*, online: bool, steps: int) -> list[str]:
    sizes = sizes_of("medium", online=online)
    trainer, _ = make_trainer(sizes, num_images=ROWS, text=TEXT)
    trainer.step(0)
    seconds, rates = [], []
    for step in range(1, steps + 1):
        rates.append(_product_flops())
        started = time.process_time()
        trainer.step(step)
        seconds.append(time.process_time() - started)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        trainer.step(steps + 1)
    trainer.close()
    batch = MicroBatch(rows=ROWS, image_rows=ROWS, width=TEXT, scored=ROWS * SCORED)
    flops = training_flops(sizes, Numerics(), batch).total
    median, best = statistics.median(seconds), max(rates)
    shares = Counter[str]()
    for event in profile.key_averages():
        shares[_kind(event.key)] += event.self_cpu_time_total
    return [
        f"features {'online' if online else 'given'}: {median:.2f} s a step, "
        f"{flops / 1e9:.0f} GFLOP",
        f"  {flops / median / 1e9:.1f} GFLOP/s, {flops / median / best:.0%} of the "
        f"{best / 1e9:.1f} of a product of {SIDE} x {SIDE}",
        *(f"  {part / shares.total():6.1%}  {kind}" for kind, part in shares.most_common()),
    ]


def _kind(operator: str) -> str:
    return next((kind for part, kind in KINDS.items() if part in operator), OTHERS)


def _product_flops() -> float:
    """Return the operations a second of the best of some large products with a frozen matrix."""
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    best = float("inf")
    for _ in range(8):
        started = time.process_time()
        torch.nn.functional.linear(left, right)
        best = min(best, time.process_time() - started)
    return 2 * SIDE**3 / best


if __name__ == "__main__":
    main()
