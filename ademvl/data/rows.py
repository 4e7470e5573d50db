"""Builds the rows that the language model reads, once, up front.

A row with an image: begin, "Image: ", slots for image vectors, the rest of the text. A row without
one: begin, "Image: N/A", the rest. Without any slots neither has a prefix. No torch is needed;
batches of rows are made by `ademvl/data/collate.py`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ademvl.config.run import LabelMask, RunSettings
from ademvl.data.examples import Example
from ademvl.data.shortening import shorten_prompt
from ademvl.data.tokenizer import (
    FILLER_ID,
    IGNORED_LABEL,
    TokenizedText,
    Tokenizer,
    encode_example,
    encode_prompt,
)
from ademvl.errors import DataError, SettingsError, list_findings

IMAGE_PREFIX = "Image: "
NO_IMAGE_PREFIX = "Image: N/A"

Overflow = Literal["keep_end", "cut_end"]
Unlearnable = Literal["refuse", "leave_out"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowLayout:
    """What is put between the begin token and the text.

    Attributes:
        image_prefix, no_image_prefix: token ids, for rows with and without an image.
        num_slots: places for image vectors behind `image_prefix`.
    """

    image_prefix: tuple[int, ...]
    no_image_prefix: tuple[int, ...]
    num_slots: int

    @classmethod
    def of_run(cls, run: RunSettings, tokenizer: Tokenizer) -> "RowLayout":
        """Return the layout of all rows of a run, in training and evaluation."""
        slots = run.method.text_places.with_image
        return cls.of(tokenizer, num_slots=slots, with_prefix=run.has_image_prefix)

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, num_slots: int, with_prefix: bool) -> "RowLayout":
        """Return a layout with or without prefixes, which are tokenized apart from the text.

        Args:
            tokenizer: gives the ids of the prefixes.
            num_slots: places for image vectors in rows with an image.
            with_prefix: whether rows begin with "Image: " or "Image: N/A".
        """
        if not with_prefix:
            return cls((), (), num_slots)
        image, no_image = tokenizer.encode(IMAGE_PREFIX), tokenizer.encode(NO_IMAGE_PREFIX)
        return cls(tuple(image), tuple(no_image), num_slots)

    def num_inserted(self, *, has_image: bool) -> int:
        """Return how many places a row spends on prefix and slots."""
        return len(self.image_prefix) + self.num_slots if has_image else len(self.no_image_prefix)


@dataclass(frozen=True, eq=False)
class TokenizedExample:
    """One finished row.

    Attributes:
        item_id: of the example.
        ids: (T,) int32; slots hold 0.
        labels: (T,) int32; -100 where nothing is scored.
        slot_start: place of the first slot, -1 without slots.
        num_slots: slots of every row with an image in this run.
        image: file of the picture, or None.
        is_shortened: whether text was cut to fit.
        num_choices, has_hint: see `Example`.
    """

    item_id: str
    ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]
    slot_start: int
    num_slots: int
    image: Path | None
    is_shortened: bool
    num_choices: int = 0
    has_hint: bool = False

    @property
    def has_label(self) -> bool:
        """Whether anything in the row is scored."""
        return bool((self.labels != IGNORED_LABEL).any())


def tokenize_examples(
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    layout: RowLayout,
    *,
    max_seq_len: int,
    overflow: Overflow = "keep_end",
    label_mask: LabelMask = "reference",
    unlearnable: Unlearnable = "refuse",
) -> list[TokenizedExample]:
    """Build the rows of `examples`, in order.

    An example with an answer is for training and is cut at its end. One without is for
    evaluation: by default the middle of its context is cut out, so that the end of the prompt,
    which asks for the answer, stays.

    Args:
        tokenizer: that of `layout`, too.
        examples: what to tokenize.
        layout: what is put in front of their text.
        max_seq_len: places of a row in all, prefix and slots included.
        overflow: `cut_end` cuts prompts at their end too, as the reference implementation does,
            though the model then never sees what it is asked.
        label_mask: see `encode_example`.
        unlearnable: what to do about training examples whose prompt takes all places; `leave_out`
            gives no row for them, and says so.

    Raises:
        SettingsError: `max_seq_len` leaves no room for text.
        DataError: lists training examples that keep nothing to learn (the reference crashes on a
            batch of them), unless they are to be left out.
    """
    num_inserted = max(layout.num_inserted(has_image=flag) for flag in (True, False))
    if max_seq_len < num_inserted + 2:
        raise SettingsError(
            f"prompts.max_seq_len: {max_seq_len}, but prefix and slots take {num_inserted} places "
            "behind the first; raise it, or use fewer method.visual_tokens"
        )
    rows = [
        _tokenize_example(tokenizer, example, layout, max_seq_len, overflow, label_mask)
        for example in examples
    ]
    rows = _learnable(rows, examples, max_seq_len, unlearnable)
    if num_shortened := count_shortened(rows):
        what = "cut at the end" if overflow == "cut_end" else "shortened"
        _log.info("%d of %d prompts or answers were %s", num_shortened, len(rows), what)
    return rows


def _learnable(
    rows: list[TokenizedExample],
    examples: Sequence[Example],
    max_seq_len: int,
    unlearnable: Unlearnable,
) -> list[TokenizedExample]:
    """Return the rows without training examples that keep nothing to learn, or refuse those."""
    useless = [
        not row.has_label and example.answer is not None
        for row, example in zip(rows, examples, strict=True)
    ]
    found = [
        f"item {row.item_id}: its prompt fills all {max_seq_len} places"
        for row, is_useless in zip(rows, useless, strict=True)
        if is_useless
    ]
    if not found:
        return rows
    headline = f"Training examples whose answer is cut off at prompts.max_seq_len {max_seq_len}"
    if unlearnable == "refuse":
        remedy = "Raise prompts.max_seq_len, or leave these items out of the data."
        raise DataError(list_findings(headline, found, remedy))
    _log.warning("%s", list_findings(headline, found, "They are left out of training."))
    return [row for row, is_useless in zip(rows, useless, strict=True) if not is_useless]


def count_shortened(rows: Sequence[TokenizedExample]) -> int:
    """Return how many rows lost text to `max_seq_len`."""
    return sum(row.is_shortened for row in rows)


def build_row(
    text: TokenizedText,
    layout: RowLayout,
    *,
    max_seq_len: int,
    item_id: str,
    image: Path | None,
    is_shortened: bool = False,
) -> TokenizedExample:
    """Insert prefix and slots behind the begin token, then cut the row at its end."""
    has_image = image is not None
    prefix = layout.image_prefix if has_image else layout.no_image_prefix
    num_slots = layout.num_slots if has_image else 0
    inserted = [*prefix, *[FILLER_ID] * num_slots]
    ids = [text.ids[0], *inserted, *text.ids[1:]]
    labels = [text.labels[0], *[IGNORED_LABEL] * len(inserted), *text.labels[1:]]
    return TokenizedExample(
        item_id=item_id,
        ids=np.array(ids[:max_seq_len], dtype=np.int32),
        labels=np.array(labels[:max_seq_len], dtype=np.int32),
        slot_start=1 + len(prefix) if num_slots else -1,
        num_slots=layout.num_slots,
        image=image,
        is_shortened=is_shortened or len(ids) > max_seq_len,
    )


def _tokenize_example(
    tokenizer: Tokenizer,
    example: Example,
    layout: RowLayout,
    max_seq_len: int,
    overflow: Overflow,
    label_mask: LabelMask,
) -> TokenizedExample:
    has_image = example.image is not None
    is_shortened = False
    if example.answer is not None:
        # One place more than fits tells `build_row` that something was cut.
        text = encode_example(
            tokenizer,
            example.prompt,
            example.answer,
            max_tokens=max_seq_len + 1,
            label_mask=label_mask,
        )
    else:
        text = encode_prompt(tokenizer, example.prompt)
        room = max_seq_len - layout.num_inserted(has_image=has_image)
        if len(text.ids) > room and overflow == "keep_end":
            text, is_shortened = shorten_prompt(tokenizer, example, room=room), True
    row = build_row(
        text,
        layout,
        max_seq_len=max_seq_len,
        item_id=example.item_id,
        image=example.image,
        is_shortened=is_shortened,
    )
    return replace(row, num_choices=example.num_choices, has_hint=example.has_hint)
