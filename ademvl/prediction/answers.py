"""What comes back for a request."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one request; as text it is `answer` alone.

    Attributes:
        request_id: of the request.
        answer: the choice, or the generated text; None where the text names no choice.
        text: what the model said.
        predicted_index: with choices which of them, from 0, or -1 for none; None without choices.
        probabilities: with choices of each of them, see `choice_probabilities`; None where there
            are none.
        warnings: what of the request is unlike the training; mostly empty.
    """

    request_id: str
    answer: str | None
    text: str
    predicted_index: int | None = None
    probabilities: tuple[float, ...] | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.answer or ""

    def to_json(self) -> dict[str, Any]:
        """Render the line that `ademvl predict --jsonl` prints."""
        line: dict[str, Any] = {"id": self.request_id, "answer": self.answer}
        if self.predicted_index is not None:
            line["predicted_index"] = self.predicted_index
            line["probabilities"] = self.probabilities
        return line | {"text": self.text, "warnings": self.warnings}
