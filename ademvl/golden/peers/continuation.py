"""Generation of released code that starts at the shortest prompt and feeds longer ones on.

Its logits are those of each row behind its first tokens, as many as the shortest prompt has, and
behind each more: of the prompt as far as it goes, and of what was generated behind it.
"""

from collections.abc import Sequence

from torch import Tensor

from ademvl.evaluation.generation import cut_at
from ademvl.golden.decoding import GreedyCall
from ademvl.golden.files import largest_difference
from ademvl.golden.peers.cases import Comparison, PeerSet
from ademvl.golden.peers.generation import compare_calls
from ademvl.golden.peers.rows import prompt_rows
from ademvl.model.vision_language import VisionLanguageModel


def compare_continuations(
    peers: PeerSet, case: Comparison, model: VisionLanguageModel, pixel_index: Sequence[int]
) -> None:
    """Make each call as a batch with cache, row by row, and without cache.

    Args:
        case: with `calls`.
        model: in evaluation mode.
        pixel_index: of all rows of the case, which calls choose from.
    """
    compare_calls(peers, case, model, pixel_index, rows_of=prompt_rows, compare=_compare_call)


def _compare_call(peers: PeerSet, case: Comparison, name: str, call: GreedyCall) -> None:
    details, tokenizer = case.details["calls"][name], peers.tokenizer
    limit, expected = details["max_gen_len"], case.input(f"{name}.logits")  # (steps, B, V)
    lengths = [len(row.ids) for row in call.rows]
    shortest = min(lengths)
    case.same(f"{name} steps", [max(lengths) - shortest + limit], [len(expected)])
    everyone = range(len(lengths))
    cached, next_tokens = call.cached(everyone, len(expected))
    decoded = [
        tokenizer.decode(cut_at(row[:limit], tokenizer.eos_id)) for row in next_tokens.T.tolist()
    ]
    case.same(f"{name} decoded", decoded, details["decoded"])
    whole = _whole_logits(call, next_tokens)
    alone = call.alone(len(expected))
    for row, length in enumerate(lengths):
        start = length - shortest  # steps in which the row still read its prompt
        stop = len(expected) - start
        for what, found, wanted in (
            ("", cached[:stop, row], expected[start:, row]),
            (" alone", alone[:stop, row], expected[start:, row]),
            (
                " without cache",
                whole[row, shortest - 1 : shortest - 1 + len(expected)],
                expected[:, row],
            ),
        ):
            error = largest_difference(found, wanted)
            case.number(f"{name}.logits of row {row}{what}", error, case.tolerance("logits"))


def _whole_logits(call: GreedyCall, next_tokens: Tensor) -> Tensor:
    """Return logits of all places of prompts with all that was generated: (B, T, V)."""
    batch, pixels = call.extended(next_tokens)
    states = call.model.hidden_states(batch, pixels)
    logits: Tensor = call.model.llm.get_output_embeddings()(states)
    return logits
