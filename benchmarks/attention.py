"""Attention on a CPU: torch's fused operator beside plain products, forward and backward.

    python benchmarks/attention.py --threads 1

Shapes are those of the mini models (rows, heads, tokens, width of a head), of LLaMA's heads and of
CLIP ViT-L's grid; with a mask where the model is causal. Ways take turns; times are processor
milliseconds, medians over the turns. A ratio above 1 says how many times faster plain products are.
"""

import argparse
import shlex
import sys
from collections.abc import Callable

import torch
from taking_turns import take_turns
from torch import Tensor
from torch.nn import functional

SHAPES = {
    "mini LLM, 16 rows of 38": (16, 4, 38, 32, True),
    "mini tower, 16 images": (16, 4, 65, 32, False),
    "LLaMA's heads, 4 rows of 128": (4, 16, 128, 64, True),
    "LLaMA's heads, 4 rows of 512": (4, 16, 512, 64, True),
    "ViT-L at 224 px, 4 images": (4, 16, 257, 64, False),
}
"""Rows, heads, tokens, width of a head, and whether a mask is given."""

REPEATS = 5


def main() -> None:
    """Print a line for each shape."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"command: {shlex.join(['python', *sys.argv])}")
    print(f"{'shape':30} {'fused ms':>9} {'plain ms':>9} {'ratio':>6}")
    for name, (rows, heads, tokens, width, is_masked) in SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        states = [
            torch.randn(rows, tokens, heads, width, generator=generator)
            .transpose(1, 2)
            .requires_grad_()
            for _ in range(3)
        ]
        is_hidden = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        mask = torch.zeros(rows, 1, tokens, tokens).masked_fill(is_hidden, -torch.inf)
        ways = {
            "fused": _both_passes(_fused, states, mask if is_masked else None),
            "plain": _both_passes(_plain, states, mask if is_masked else None),
        }
        seconds = take_turns(ways, turns=options.turns)
        fused, plain = (1000 * seconds[way] / REPEATS for way in ways)
        print(f"{name:30} {fused:9.2f} {plain:9.2f} {fused / plain:6.2f}", flush=True)


def _both_passes(
    attend: Callable[..., Tensor], states: list[Tensor], mask: Tensor | None
) -> Callable[[], None]:
    def work() -> None:
        for _ in range(REPEATS):
            output = attend(*states, mask)
            output.backward(torch.ones_like(output))  # type: ignore[no-untyped-call]

    work()
    return work


def _fused(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def _plain(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    scores = queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5
    return (scores if mask is None else scores + mask).softmax(-1) @ values


if __name__ == "__main__":
    main()
