"""Time of one layer's fusion on the CPU, forward and with gradients, beside plain ways to write it.

    OMP_NUM_THREADS=1 python benchmarks/fusion.py
    python benchmarks/fusion.py --batch 4 --text 200 --visual 320 --width 4096

Only ratios within one run mean anything: processor time is the machine's. `sort` is the formula as
it reads, with a full sort for the threshold; `kthvalue` selects by torch. The last three are what
a training does with a threshold for each text token, by both relaxations, and with 1.5-entmax.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from taking_turns import take_turns
from torch import Tensor

from ademvl.methods.adem.rule import drop_low_scores, fuse_adem
from ademvl.methods.adem.settings import Relaxation
from ademvl.methods.adem.thresholds import LearnedThreshold, drop_relaxed, sparse_weights

ALPHA, GAMMA = 0.1, 0.1
REPETITIONS = 15


def main() -> None:
    """Parse the sizes, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--text", type=int, default=75, help="T, tokens of a row")
    parser.add_argument("--visual", type=int, default=80, help="N, visual tokens")
    parser.add_argument("--width", type=int, default=128, help="d, of the language model")
    options = parser.parse_args()
    print("command:", shlex.join(["python", *sys.argv]), f"({torch.get_num_threads()} threads)")
    tensors = _tensors(options)
    ways = {
        "sort": lambda: _plain(tensors, _by_sorting),
        "kthvalue": lambda: _plain(tensors, _by_kthvalue),
        "ademvl": lambda: _fuse(tensors, partial(drop_low_scores, gamma=GAMMA)),
        "straight_through": lambda: _fuse(tensors, _learned(tensors, "straight_through")),
        "sigmoid": lambda: _fuse(tensors, _learned(tensors, "sigmoid")),
        "entmax15": lambda: _fuse(tensors, partial(sparse_weights, normalizer="entmax15")),
    }
    seconds = _measure(ways, tensors)
    print(f"{'way':16} {'forward ms':>11} {'with gradients ms':>18}")
    for way, (forward, both) in seconds.items():
        print(f"{way:16} {forward * 1e3:11.2f} {both * 1e3:18.2f}")


def _tensors(options: argparse.Namespace) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"states": options.text, "target": options.text}
    sizes |= {"keys": options.visual, "values": options.visual}
    return {
        name: torch.randn(options.batch, size, options.width, generator=generator).requires_grad_()
        for name, size in sizes.items()
    }


def _measure(
    ways: dict[str, Callable[[], Tensor]], tensors: dict[str, Tensor]
) -> dict[str, tuple[float, float]]:
    """Return the median processor seconds of each way, taking turns."""
    grad = torch.ones_like(tensors["target"])

    def forward(run: Callable[[], Tensor]) -> None:
        with torch.no_grad():
            run()

    def backward(run: Callable[[], Tensor]) -> None:
        torch.autograd.grad(run(), list(tensors.values()), grad)

    works = {
        f"{way} {name}": partial(work, run)
        for way, run in ways.items()
        for name, work in (("forward", forward), ("backward", backward))
    }
    seconds = take_turns(works, turns=REPETITIONS)
    return {way: (seconds[f"{way} forward"], seconds[f"{way} backward"]) for way in ways}


def _fuse(tensors: dict[str, Tensor], select: Callable[[Tensor], Tensor]) -> Tensor:
    return fuse_adem(
        tensors["states"],
        tensors["keys"],
        tensors["values"],
        target=tensors["target"],
        alpha=ALPHA,
        phi="silu",
        select=select,
    )


def _learned(tensors: dict[str, Tensor], relaxation: Relaxation) -> Callable[[Tensor], Tensor]:
    """Drop as a training does with a threshold for each text token."""
    states = tensors["states"]
    threshold = LearnedThreshold(first=GAMMA, layers=1, width=states.shape[-1])
    for parameter in threshold.parameters():
        torch.nn.init.zeros_(parameter)
    gamma = threshold(states, 0)
    return partial(drop_relaxed, gamma=gamma, temperature=0.1, relaxation=relaxation, by="value")


def _plain(tensors: dict[str, Tensor], threshold: Callable[[Tensor, int], Tensor]) -> Tensor:
    scores = F.silu(tensors["states"]) @ tensors["keys"].transpose(1, 2)
    lowest = threshold(scores, int(GAMMA * scores.shape[-1]))
    kept = torch.where(scores < lowest, 0.0, scores)
    return tensors["target"] + ALPHA * (kept @ tensors["values"])


def _by_sorting(scores: Tensor, index: int) -> Tensor:
    return scores.sort(dim=-1).values[..., index : index + 1].detach()


def _by_kthvalue(scores: Tensor, index: int) -> Tensor:
    return scores.kthvalue(index + 1, dim=-1, keepdim=True).values.detach()


if __name__ == "__main__":
    main()
