"""The choice that a text names, by the letter that prompts give it."""

import re
from typing import Literal

ANSWER_CUE = "The answer is"
"""What evaluation puts behind "Response:", so that the next token is the letter."""
NO_ANSWER = -1
TextRule = Literal["free-text", "first-capital"]
"""How a text that somebody else's system wrote names a choice."""
_CAPITAL = re.compile("[A-Z]")


def first_capital(text: str) -> str | None:
    """Return the first capital A to Z anywhere in `text`.

    The reference implementation's rule: "The" gives T, and "Answer" gives A.
    """
    found = _CAPITAL.search(text)
    return found.group() if found else None


def choice_named(text: str, *, num_choices: int) -> int:
    """Return the 0-based choice that the first capital in `text` names, or NO_ANSWER."""
    letter = first_capital(text)
    if letter is None:
        return NO_ANSWER
    index = ord(letter) - ord("A")
    return index if index < num_choices else NO_ANSWER


def choice_lettered(text: str, *, num_choices: int) -> int:
    """Return the 0-based choice whose letter is all of `text` but white space, or NO_ANSWER."""
    found = _CAPITAL.fullmatch(text.strip())
    return choice_named(text, num_choices=num_choices) if found else NO_ANSWER
