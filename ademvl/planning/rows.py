"""Rows of text as a plan sees them: how long they are, and whether they bring an image."""

from collections.abc import Callable
from dataclasses import dataclass

from ademvl.config.run import RunSettings
from ademvl.data.rows import IMAGE_PREFIX, NO_IMAGE_PREFIX


@dataclass(frozen=True)
class Row:
    """What a row of text takes.

    Attributes:
        width: tokens, prefix and slots included.
        scored: answer tokens.
        has_image: whether it brings an image.
    """

    width: int
    scored: int
    has_image: bool


def num_inserted(run: RunSettings, count: Callable[[str], int], *, has_image: bool) -> int:
    """Return the places that prefix and slots take; `count` gives the tokens of a text."""
    prefix = IMAGE_PREFIX if has_image else NO_IMAGE_PREFIX
    num_prefix = count(prefix) if run.has_image_prefix else 0
    return num_prefix + (run.method.text_places.with_image if has_image else 0)
