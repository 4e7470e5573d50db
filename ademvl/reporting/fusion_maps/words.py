"""Which token of a row stands for which word of its question or caption."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ademvl.data.tokenizer import Tokenizer

MAX_WORDS = 5
ANSWER_WORD = "(answer)"
START_WORD = "(first word)"
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
        ids: of the whole row, prompt to its end.
        first_text_position: place of the first token behind begin token, prefix and slots.

    Returns:
        At most MAX_WORDS words in the order of the question, then ANSWER_WORD.
    """
    text, ends = _text_with_ends(tokenizer, ids[first_text_position:])
    found: list[WordToken] = []
    start = text.rfind(_QUESTION_LABEL)
    if start >= 0:
        start += len(_QUESTION_LABEL)
        end = text.find("\n", start)
        end = end if end >= 0 else len(text)
        found = _content_words(text, ends, start, end, first_text_position)
    return [*found, WordToken(ANSWER_WORD, len(ids) - 1)]


def caption_words(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    *,
    first_text_position: int,
    first_new_position: int,
    caption: str,
) -> list[WordToken]:
    """Choose content words of a generated caption, and the place where its first word is predicted.

    Args:
        ids: of the whole row, prompt and generated tokens.
        first_text_position: place of the first token behind begin token, prefix and slots.
        first_new_position: place of the first generated token.
        caption: the part of the generated text that counts; it stands at its end.

    Returns:
        START_WORD, then at most MAX_WORDS words in the order of the caption.
    """
    text, ends = _text_with_ends(tokenizer, ids[first_text_position:])
    # Generated text may repeat the prompt; the caption is looked for from the right.
    start = text.rfind(caption) if caption else -1
    found = []
    if start >= 0:
        end = start + len(caption)
        found = _content_words(text, ends, start, end, first_text_position)
    return [WordToken(START_WORD, first_new_position - 1), *found]


def _content_words(
    text: str, ends: Sequence[int], start: int, end: int, first_position: int
) -> list[WordToken]:
    """Return the first words of text[start:end] that mean something, each once."""
    function_words = set(_FUNCTION_WORDS.split())
    found: dict[str, WordToken] = {}
    for match in _WORD.finditer(text, start, end):
        word = match.group()
        if word.lower() not in function_words:
            token = next(index for index, place in enumerate(ends) if place >= match.end())
            found.setdefault(word, WordToken(word, first_position + token))
    return list(found.values())[:MAX_WORDS]


def _text_with_ends(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, list[int]]:
    """Return the text of `ids`, and for each of them how long the text is up to its end."""
    ends = [len(tokenizer.decode(ids[: count + 1])) for count in range(len(ids))]
    return tokenizer.decode(ids), ends
