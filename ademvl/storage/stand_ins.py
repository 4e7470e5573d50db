"""Recognises what stands under a file's name in its place: web pages, Git LFS pointers, texts.

A download that a server refuses, and a clone without `git lfs pull`, leave such files behind.
Readers of binary formats ask here first, so that they are called what they are.
"""

import re
from pathlib import Path

from ademvl.errors import AdemvlError

_START_BYTES = 512
_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[!?a-zA-Z]")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_MAX_QUOTED = 60
_GET_IT_AGAIN = (
    "Get the file again; where its site wants a login or has a quota, with a browser or a token."
)
_PULL = "Get the file itself: `git lfs pull` in the clone that it comes from, or a download."


def refuse_stand_in(
    path: Path, *, expected: str, error: type[AdemvlError], is_text: bool = False
) -> None:
    """Refuse a file that is empty or a text, where a binary format is expected.

    Args:
        path: what is no regular file passes, for the reader to refuse.
        expected: what should be there, such as "a checkpoint".
        error: to raise.
        is_text: a text is expected, so that only web pages and Git LFS pointers are refused.

    Raises:
        AdemvlError: of the class `error`; names the file, what it is, and what to do.
    """
    if not path.is_file():
        return
    with path.open("rb") as stream:
        start = stream.read(_START_BYTES)
    if what := _markup_or_pointer(start) or ("" if is_text else _empty_or_text(start)):
        remedy = _PULL if start.startswith(_LFS_POINTER) else _GET_IT_AGAIN
        raise error(f"{path}: is {what}, not {expected}. {remedy}")


def describe_stand_in_at(path: Path) -> str:
    """Say what stands at a path as `describe_stand_in` does."""
    with path.open("rb") as stream:
        return describe_stand_in(stream.read(_START_BYTES))


def describe_stand_in(start: bytes) -> str:
    """Say what content is a web page or a Git LFS pointer and what to do; empty for all other.

    Args:
        start: of the content, 512 bytes or more.
    """
    if what := _markup_or_pointer(start):
        return f"is {what}. {_PULL if start.startswith(_LFS_POINTER) else _GET_IT_AGAIN}"
    return ""


def _markup_or_pointer(start: bytes) -> str:
    if start.startswith(_LFS_POINTER):
        return "a Git LFS pointer"
    if _MARKUP.match(start) and b"\0" not in start[:_START_BYTES]:
        return "a web page (a download that was refused)"
    return ""


def _empty_or_text(start: bytes) -> str:
    if not start.strip():
        return "an empty file"
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    if not all(character.isprintable() or character.isspace() for character in text):
        return ""
    quoted = " ".join(text.split())[:_MAX_QUOTED]
    return f"a text that begins with {quoted!r}"
