"""Answers that an adapter gave where it was exported, so that others see whether it gives them too.

They are about the sample images that come with the package, so that nothing else is needed; how
well the adapter knows such images does not matter.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ademvl.config.run import RunSettings
from ademvl.config.tasks import facts_of
from ademvl.errors import DataError
from ademvl.prediction.adapted_model import AdaptedModel
from ademvl.runs.provenance import package_versions
from ademvl.runs.trained_adapter import TrainedAdapter
from ademvl.storage.files import read_json

_IMAGES = ("red_circle", "blue_triangle", "yellow_rectangle", "teal_circle")
_QUESTIONS: Sequence[Mapping[str, Any]] = (
    {"question": "What color is the shape?", "choices": ["red", "blue"]},
    {
        "question": "which shape does the image show?",
        "choices": ["circle", "rectangle", "triangle"],
    },
)
_IN_TEXT: Sequence[Mapping[str, Any]] = (
    {"question": "what color is the circle?", "choices": ["blue", "red", "green"],
     "hint": "a plain red circle on an empty background"},
)  # fmt: skip
_TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.05}
"""Of probabilities, by the precision of the language model: other kernels sum in other orders."""


def record_answers(trained: TrainedAdapter) -> dict[str, Any]:
    """Ask an adapter, and return what `compare_answers` needs."""
    requests = _requests(trained.run)
    answers = AdaptedModel(trained).answer_all(requests)
    return {
        "requests": requests,
        "answers": [_compared(answer.to_json()) for answer in answers],
        "precision": trained.run.backbones.precision,
        "packages": package_versions(),
    }


def compare_answers(trained: TrainedAdapter, path: Path) -> list[str]:
    """Ask an adapter again; return what differs from the recorded answers, nothing where all agree.

    Args:
        path: of its golden answers.

    Raises:
        DataError: the file is malformed.
    """
    remedy = "Get the folder anew."
    recorded = read_json(path, remedy=remedy)
    try:
        requests, expected = recorded["requests"], recorded["answers"]
        tolerance = _TOLERANCE[recorded["precision"]]
        found = [answer.to_json() for answer in AdaptedModel(trained).answer_all(requests)]
        return [
            difference
            for pair in zip(expected, map(_compared, found), strict=True)
            for difference in _differences(*pair, tolerance=tolerance)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: malformed ({error!r}). {remedy}") from error


def _requests(run: RunSettings) -> list[dict[str, Any]]:
    if run.images == "withheld":
        return [dict(asked) for asked in _IN_TEXT]
    images = [f"sample:{name}.png" for name in _IMAGES]
    learned = facts_of(run.task).learned[0]
    if learned == "caption":
        return [{"image": image, "caption": True} for image in images]
    asked = [asked if learned == "choice" else _opened(asked) for asked in _QUESTIONS]
    return [{"image": image, **question} for image in images for question in asked]


def _opened(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a question without its choices, as adapters for instructions are asked."""
    return {"question": asked["question"]}


def _compared(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: answer[key] for key in ("id", "answer", "text", "probabilities") if key in answer}


def _differences(
    expected: Mapping[str, Any], found: Mapping[str, Any], *, tolerance: float
) -> Iterator[str]:
    if expected["text"] != found["text"]:
        yield f"request {expected['id']}: says {found['text']!r}, recorded {expected['text']!r}"
    then, now = expected.get("probabilities") or (), found.get("probabilities") or ()
    furthest = max((abs(a - b) for a, b in zip(then, now, strict=True)), default=0.0)
    if furthest > tolerance:
        yield (
            f"request {expected['id']}: probabilities are {list(now)}, recorded {list(then)}, "
            f"more than {tolerance} apart"
        )
