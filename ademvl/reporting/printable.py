"""Texts of users and data sets, made fit to be printed."""

import unicodedata


def printable(text: str) -> str:
    """Make a text safe to print on one line: control and bidi characters become spaces."""
    cleaned = "".join(
        " " if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") else character
        for character in text
    )
    return " ".join(cleaned.split())
