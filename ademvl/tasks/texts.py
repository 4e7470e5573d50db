"""Texts of a split as a plan needs them: how many, a sample of them, and the longest ones."""

import heapq
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ademvl.data.examples import Example
from ademvl.errors import DataError
from ademvl.storage.files import read_json

_SAMPLE, _LONGEST = 1000, 64
_REMEDY = "Correct the file, or make the data again (`snakemake data`)."


class Texts(NamedTuple):
    """Texts of a split.

    Attributes:
        items: how many.
        images: different images among them.
        sample: some at random.
        longest: those with the longest texts.
    """

    items: int
    images: int
    sample: Sequence[Example]
    longest: Sequence[Example]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Texts":
        """Choose from all texts of a split."""
        longest = heapq.nlargest(
            _LONGEST, examples, key=lambda item: len(item.prompt) + len(item.answer or "")
        )
        images = {example.image for example in examples} - {None}
        return cls(len(examples), len(images), _sample(examples), longest)

    @classmethod
    def of_rows(
        cls,
        rows: Sequence[Any],
        render: Callable[[Any], Example],
        *,
        length: Callable[[Any], int],
        images: int,
    ) -> "Texts":
        """Choose from rows of a file, and render only those that are chosen."""
        longest = heapq.nlargest(_LONGEST, rows, key=length)
        return cls(
            len(rows), images, [render(row) for row in _sample(rows)], list(map(render, longest))
        )


@cache
def rows_of(path: Path) -> list[Any]:
    """Read a file that lists objects, by itself or under the key `all`.

    Raises:
        DataError: it is missing, or holds no such list.
    """
    content = read_json(path, remedy=_REMEDY)
    rows = content.get("all") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: holds no list of items. {_REMEDY}")
    return rows


def _sample(items: Sequence[Any]) -> list[Any]:
    return random.Random(0).sample(items, min(_SAMPLE, len(items)))
