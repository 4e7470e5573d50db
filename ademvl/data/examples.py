"""One item of any task as text and image, before it is tokenized."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ImageVisibility = Literal["shown", "withheld"]


@dataclass(frozen=True)
class Example:
    """One item as text and image.

    Attributes:
        item_id: question id or image id; unique within what is trained or evaluated.
        prompt: text that is given.
        answer: text that is learned; None in evaluation.
        image: file of the picture, None without one or where it is withheld.
        context: the part of `prompt` that may be shortened where the prompt is too long.
        num_choices: options that the prompt lists, 0 for none.
        has_hint: whether there is a context beside the question.
    """

    item_id: str
    prompt: str
    answer: str | None
    image: Path | None
    context: str = ""
    num_choices: int = 0
    has_hint: bool = False
