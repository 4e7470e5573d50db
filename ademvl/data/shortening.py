"""Shortens prompts that are too long without losing their end, which asks for the answer."""

import re
from collections.abc import Callable

from ademvl.data.examples import Example
from ademvl.data.tokenizer import TokenizedText, Tokenizer, encode_prompt

OMISSION = " ... "
"""What stands in a prompt for the part of the context that was cut out."""

_WORD = re.compile(r"\S+")


def shorten_prompt(tokenizer: Tokenizer, example: Example, *, room: int) -> TokenizedText:
    """Tokenize a prompt to at most `room` ids, begin token included.

    As many words as fit stay at both ends of the context, with `OMISSION` between them. Where the
    prompt is too long even without any context, or has none, the prompt's start goes.

    Args:
        example: its `context` is the part of the prompt that may be shortened.
        room: at least 2.
    """
    if example.context and example.context in example.prompt:
        before, _, after = example.prompt.partition(example.context)
        shorter = _longest_that_fits(
            example.context,
            lambda context: encode_prompt(tokenizer, before + context + after),
            room,
        )
        if shorter is not None:
            return shorter
    text = encode_prompt(tokenizer, example.prompt)
    end = len(text.ids) - (room - 1)
    return TokenizedText([text.ids[0], *text.ids[end:]], text.labels[:room])


def _longest_that_fits(
    context: str, encode: Callable[[str], TokenizedText], room: int
) -> TokenizedText | None:
    """Keep as many words at both ends of the context as fit, found by bisection."""
    words = [found.span() for found in _WORD.finditer(context)]
    best: TokenizedText | None = None
    low, high = 0, len(words) - 1  # words kept
    while low <= high:
        num_kept = (low + high) // 2
        num_tail = num_kept // 2
        num_head = num_kept - num_tail
        head = context[: words[num_head - 1][1]] if num_head else ""
        tail = context[words[len(words) - num_tail][0] :] if num_tail else ""
        text = encode((head + OMISSION + tail).strip())
        if len(text.ids) <= room:
            best, low = text, num_kept + 1
        else:
            high = num_kept - 1
    return best
