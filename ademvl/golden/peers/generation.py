"""What every recorded case of generation on LLaMA has: greedy calls with logits and answers."""

from collections.abc import Callable, Sequence

import torch

from ademvl.data.rows import TokenizedExample
from ademvl.evaluation.generation import cut_at, generate
from ademvl.golden.decoding import GreedyCall
from ademvl.golden.files import largest_difference
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.rows import evaluation_rows
from ademvl.model.vision_language import VisionLanguageModel

CompareCall = Callable[[PeerSet, Comparison, str, GreedyCall], None]
"""Compares the call of a name."""


@torch.inference_mode()
def compare_calls(
    peers: PeerSet,
    case: Comparison,
    model: VisionLanguageModel,
    pixel_index: Sequence[int],
    *,
    rows_of: Callable[..., list[TokenizedExample]] = evaluation_rows,
    compare: CompareCall | None = None,
) -> None:
    """Make each call as a batch with cache, row by row, and without cache.

    Args:
        case: with `calls`.
        model: in evaluation mode.
        pixel_index: of all rows of the case, which calls choose from.
        rows_of: builds the rows of a call, as `evaluation_rows` does.
        compare: compares a call; None for those that all rows end together.
    """
    for name, details in case.details["calls"].items():
        shown = [pixel_index[row] for row in details["rows"]]
        rows = rows_of(peers, case, name, model.method.settings, shown)
        call = GreedyCall(model, rows, shown, peers.pixels)
        (compare or _compare_call)(peers, case, name, call)


def _compare_call(peers: PeerSet, case: Comparison, name: str, call: GreedyCall) -> None:
    details, tokenizer = case.details["calls"][name], peers.tokenizer
    expected, limit = details["generated_tokens"], details["max_gen_len"]
    logits = case.input(f"{name}.logits")
    # All rows go on until each has ended; the end itself takes a step.
    num_steps = max(min(len(ids) + 1, limit) for ids in expected)
    case.same(f"{name} steps", [num_steps], [len(logits)])
    everyone = range(len(call.rows))
    cached, next_tokens = call.cached(everyone, num_steps)
    ids = [cut_at(row, tokenizer.eos_id) for row in next_tokens.T.tolist()]
    batch, pixels = call.batch(everyone)
    case.same(f"{name} generated ids", ids, expected)
    case.same(
        f"{name} ids until the end",
        generate(call.model, batch, pixels, max_new_tokens=limit, eos_id=tokenizer.eos_id),
        expected,
    )
    case.same(f"{name} decoded", [tokenizer.decode(row) for row in ids], details["decoded"])
    for what, found in (
        ("", cached),
        (" of rows alone", call.alone(num_steps)),
        (" without cache", call.uncached(next_tokens)),
    ):
        error = largest_difference(found, logits)
        case.number(f"{name}.logits{what}", error, case.tolerance("logits"))
