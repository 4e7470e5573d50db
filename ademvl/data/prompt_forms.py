"""In which forms prompts come, and what is unlike all those that an adapter was trained on.

A form is what a question looks like, whatever it asks: how many choices, an image or none, a hint
or none. Adapters answer well in forms that they know, and anything in others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import IGNORED_LABEL


@dataclass(frozen=True, order=True)
class PromptForm:
    """What a prompt looks like.

    Attributes:
        num_choices: options that it lists; 0 for an open question, an instruction or a caption.
        has_image: whether a picture belongs to it.
        has_hint: whether it has a context.
    """

    num_choices: int
    has_image: bool
    has_hint: bool

    @classmethod
    def of(cls, row: TokenizedExample) -> "PromptForm":
        """Return the form of a row."""
        return cls(row.num_choices, row.image is not None, row.has_hint)

    def __str__(self) -> str:
        parts = (_choices([self.num_choices]), _with("image", self), _with("hint", self))
        return ", ".join(parts)


@dataclass(frozen=True)
class TrainedForms:
    """All forms of a training split.

    Attributes:
        prompt_tokens: least and most tokens in front of the answer, of rows of each form; begin
            token and what stands for an image count.
    """

    prompt_tokens: Mapping[PromptForm, tuple[int, int]]

    @classmethod
    def of_rows(cls, rows: Iterable[TokenizedExample]) -> "TrainedForms":
        """Collect the forms of rows with answers; a prompt ends where something is learned."""
        found: dict[PromptForm, tuple[int, int]] = {}
        for row in rows:
            scored = np.flatnonzero(row.labels != IGNORED_LABEL)
            if len(scored):
                form, length = PromptForm.of(row), int(scored[0])
                low, high = found.get(form, (length, length))
                found[form] = min(low, length), max(high, length)
        return cls(dict(sorted(found.items())))

    def to_json(self) -> list[dict[str, Any]]:
        """Render for `adapter.json`."""
        return [
            {
                "choices": form.num_choices,
                "image": form.has_image,
                "hint": form.has_hint,
                "prompt_tokens": list(lengths),
            }
            for form, lengths in self.prompt_tokens.items()
        ]

    @classmethod
    def from_json(cls, content: object) -> "TrainedForms":
        """Read what `to_json` rendered.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        if not isinstance(content, list):
            raise TypeError(f"a {type(content).__name__}, expected a list")
        found = {}
        for entry in content:
            low, high = entry["prompt_tokens"]
            form = PromptForm(int(entry["choices"]), bool(entry["image"]), bool(entry["hint"]))
            found[form] = int(low), int(high)
        return cls(found)

    def unlike(self, form: PromptForm, *, num_tokens: int) -> list[str]:
        """Say what of a prompt no prompt of the training had.

        Args:
            form: of the prompt.
            num_tokens: of the prompt, counted as `prompt_tokens`.
        """
        forms = self.prompt_tokens
        if not forms:
            return []
        findings = []
        counts = sorted({known.num_choices for known in forms})
        if form.num_choices not in counts:
            findings.append(f"{_choices([form.num_choices])}, but {_choices(counts)} in training")
        for part in ("image", "hint"):
            if all(_with(part, known) != _with(part, form) for known in forms):
                findings.append(f"{_with(part, form)}, unlike all that it was trained on")
        if findings:
            return findings
        if form not in forms:
            return [f"{form}: never together in training"]
        alike = [
            lengths
            for known, lengths in forms.items()
            if (known.has_image, known.has_hint) == (form.has_image, form.has_hint)
        ]
        low, high = min(low for low, _ in alike), max(high for _, high in alike)
        if low <= num_tokens <= high:
            return []
        lengths = str(low) if low == high else f"{low} to {high}"
        return [f"a prompt of {num_tokens} tokens, but {lengths} in training"]


def _choices(counts: Sequence[int]) -> str:
    """Name numbers of choices: "no choices", "2, 3 or 4 choices"."""
    *others, last = ("no" if count == 0 else str(count) for count in counts)
    return f"{' or '.join([', '.join(others), last] if others else [last])} choices"


def _with(part: str, form: PromptForm) -> str:
    has_part = form.has_image if part == "image" else form.has_hint
    return f"{'with' if has_part else 'without'} {part}"
