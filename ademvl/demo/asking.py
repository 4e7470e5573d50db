"""What the demo's page asks one adapter, and what it shows of the answer; knows no web page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Literal

from ademvl.prediction.adapted_model import AdaptedModel
from ademvl.prediction.answers import Answer
from ademvl.prediction.explaining import Explanation
from ademvl.reporting.tables.markdown import escape_markdown

if TYPE_CHECKING:
    from PIL.Image import Image

ALL_LAYERS = "all layers"
Kind = Literal["question", "caption"]


@dataclass(frozen=True, eq=False)
class Reply:
    """What is shown of an answer.

    Attributes:
        answer: of the adapter.
        choices: that were offered.
        explanation: what its words kept of the image; None without an image, or for a method
            without scores.
    """

    answer: Answer
    choices: tuple[str, ...]
    explanation: Explanation | None

    @property
    def text(self) -> str:
        """The answer and its warnings as Markdown."""
        answer = self.answer
        said = f"no answer: it said {answer.text!r}, which names no choice"
        warnings = [f"unlike its training: {warning}" for warning in answer.warnings]
        lines = [answer.answer or said, *warnings]
        return "#### " + "\n\n".join(map(escape_markdown, lines))

    @property
    def probabilities(self) -> Mapping[str, float] | None:
        """How probable each choice is, by its letter and text; None without choices."""
        shares = self.answer.probabilities
        if not shares:
            return None
        lettered = zip(ascii_uppercase, self.choices, shares, strict=False)
        return {f"({letter}) {choice}": share for letter, choice, share in lettered}

    @property
    def scales(self) -> list[str]:
        """Grids by which the image was seen, finest first; empty without maps."""
        return [f"{scale} patches" for scale in self.explanation.scales] if self.explanation else []

    @property
    def layers(self) -> list[str]:
        """Layers that can be chosen."""
        if self.explanation is None:
            return [ALL_LAYERS]
        first = self.explanation.words[0]
        num_layers = len(first.scores[self.explanation.scales[0]])
        return [ALL_LAYERS, *(f"layer {layer + 1}" for layer in range(num_layers))]

    def maps(self, scale: str, layer: str) -> list[tuple["Image", str]]:
        """Return for each word its map over the image, and the word.

        Args:
            scale: one of `scales`.
            layer: one of `layers`.
        """
        if self.explanation is None:
            return []
        patches = self.explanation.scales[self.scales.index(scale)]
        number = None if layer == ALL_LAYERS else int(layer.removeprefix("layer ")) - 1
        return [
            (self.explanation.overlay(place, scale=patches, layer=number), word.word)
            for place, word in enumerate(self.explanation.words)
        ]


def ask(
    model: AdaptedModel,
    image: str | None,
    kind: Kind,
    question: str,
    choices: Sequence[str],
    hint: str,
) -> Reply:
    """Ask one adapter what the page says.

    Args:
        image: file of the picture; None for a text-only question.
        kind: a question, or a caption, for which the other texts are left out.
        question: as typed, likewise `choices` and `hint`.
        choices: none for a free answer.
        hint: context.

    Raises:
        AdemvlError: what of the request cannot be.
    """
    is_question = kind == "question"
    text, offered, context = (question, tuple(choices), hint) if is_question else ("", (), "")
    if image and model.trained.run.method.draws_scores and (text or kind == "caption"):
        explanation = model.explain(image, text, offered, hint=context)
        return Reply(explanation.answer, offered, explanation)
    if kind == "caption":
        return Reply(model.caption(image or ""), (), None)
    return Reply(model.answer(image, text, offered, hint=context), offered, None)


def name_of(model: AdaptedModel) -> str:
    """Return how the page calls an adapter."""
    run = model.trained.run
    if not run.study:
        return str(Path(model.trained.folder).name)
    return f"{run.study}: {run.name}, seed {run.seed}"
