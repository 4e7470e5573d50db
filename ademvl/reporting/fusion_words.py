"""Which token of a prompt stands for which word of the question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ademvl.data.tokenizer import Tokenizer

MAX_WORDS = 5
ANSWER_WORD = "(answer)"
_QUESTION_LABEL = "Question: "
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_FUNCTION_WORDS = """
a an the this that these those which what who whose where when why how of in on at to for from with
by and or as is are was were be been being do does did can could will would shall should may might
must has have had it its there here image picture figure below above following
"""


@dataclass(frozen=True)
class WordToken:
    """A word and the place in the row whose text state has read all of it."""

    word: str
    position: int


def question_words(
    tokenizer: Tokenizer, ids: Sequence[int], *, first_text_position: int
) -> list[WordToken]:
    """Choose content words of the question, and the place where the answer is predicted.

    A word of several tokens is represented by its last one, which has read all of them.

    Args:
        tokenizer: of the language model.
        ids: of the whole row, prompt to its end.
        first_text_position: place of the first token behind begin token, prefix and slots.

    Returns:
        At most MAX_WORDS words in the order of the question, then ANSWER_WORD.
    """
    text, ends = _text_with_ends(tokenizer, ids[first_text_position:])
    function_words = set(_FUNCTION_WORDS.split())
    found: dict[str, WordToken] = {}
    start = text.rfind(_QUESTION_LABEL)
    if start >= 0:
        start += len(_QUESTION_LABEL)
        end = text.find("\n", start)
        for match in _WORD.finditer(text, start, end if end >= 0 else len(text)):
            word = match.group()
            if word.lower() not in function_words:
                token = next(index for index, place in enumerate(ends) if place >= match.end())
                found.setdefault(word, WordToken(word, first_text_position + token))
    return [*list(found.values())[:MAX_WORDS], WordToken(ANSWER_WORD, len(ids) - 1)]


def _text_with_ends(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[int]]:
    """Return the text of `ids`, and for each of them how long the text is up to its end."""
    ends = [len(tokenizer.decode(ids[: count + 1])) for count in range(len(ids))]
    return tokenizer.decode(ids), ends
