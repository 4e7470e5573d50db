"""Finds halves of characters in texts, which JSON can hold but no tokenizer or file can.

JSON may write a character such as an emoji as two escapes, and a program that cuts texts by length
leaves one of them.
"""

import re
from collections.abc import Iterable

HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def surrogate_findings(texts: Iterable[tuple[str, object]]) -> list[str]:
    """Say which of (name, text) hold half of a character; what is no text is passed over."""
    return [
        f"{name} holds half of a character ({found[0]!a}), which no tokenizer reads"
        for name, text in texts
        if isinstance(text, str) and (found := HALF_CHARACTER.search(text))
    ]


def escape_surrogates(text: str) -> str:
    r"""Return a text that can be printed: halves of characters as JSON writes them (\ud83d)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
