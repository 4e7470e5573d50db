"""What `ademvl.load` gives: a trained adapter in its frozen models, to be asked about images.

`ademvl predict` and `ademvl demo` ask through the same class. Which device computes is decided as
in an evaluation; no lock of a GPU is taken here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

from ademvl.errors import DataError, list_findings
from ademvl.prediction.answering import Predictor
from ademvl.prediction.answers import Answer
from ademvl.prediction.explaining import Explanation, MapFolder, explain, refuse_unexplainable
from ademvl.prediction.requests import (
    Request,
    check_request_images,
    parse_request,
    refuse_withheld_images,
)
from ademvl.prediction.unfamiliar import tell_unfamiliar, unfamiliar_requests
from ademvl.runs.trained_adapter import TrainedAdapter

if TYPE_CHECKING:
    from PIL.Image import Image

ImageLike: TypeAlias = "str | Path | Image"
"""File of a picture, `sample:red_circle.png` and the like, or an image of Pillow."""
_REMEDY = "docs/predict.md has the keys of a request."


class AdaptedModel:
    """A trained adapter in its frozen models, which are loaded once.

    Args:
        trained: adapter and settings.

    Attributes:
        trained: the same.

    Raises:
        SettingsError, WeightsError: what is missing or does not fit.
    """

    def __init__(self, trained: TrainedAdapter) -> None:
        self.trained = trained
        self._predictor = Predictor(trained)

    def answer(
        self,
        image: "ImageLike | None",
        question: str,
        choices: Sequence[str] = (),
        *,
        hint: str = "",
    ) -> Answer:
        """Answer a question: with choices by one of them, else by generated text.

        Args:
            image: that it is about; None for a text-only question.
            choices: 2 to 26 texts, or none.

        Raises:
            DataError: the image is missing or does not decode, or the request is malformed.
            SettingsError: an image for a text-only control.
        """
        return self.answer_all([_question(image, question, choices, hint)])[0]

    def caption(self, image: "ImageLike") -> Answer:
        """Describe an image.

        Raises:
            DataError, SettingsError: as `answer`.
        """
        return self.caption_all([image])[0]

    def caption_all(self, images: "Iterable[ImageLike]", *, batch_size: int = 16) -> list[Answer]:
        """Describe images; captions come in their order.

        Raises:
            DataError, SettingsError: as `answer`.
        """
        asked = [{"image": image, "caption": True} for image in images]
        return self.answer_all(asked, batch_size=batch_size)

    def answer_all(
        self, requests: Iterable[Mapping[str, object]], *, batch_size: int = 16
    ) -> list[Answer]:
        """Answer requests, questions and captions mixed at will, in their order.

        Args:
            requests: each with the keys of a line of `ademvl predict --jsonl`: image, question,
                choices, hint, caption, id. An image may be one of Pillow.
            batch_size: requests that are computed together; answers do not depend on it.

        Raises:
            DataError, SettingsError: as `answer`; all findings are listed.
        """
        with _checked(self.trained, requests) as parsed:
            return list(self.ask(parsed, batch_size=batch_size))

    def explain(
        self,
        image: "ImageLike",
        question: str = "",
        choices: Sequence[str] = (),
        *,
        hint: str = "",
    ) -> Explanation:
        """Answer a question, or describe the image without one, and tell what its words kept of it.

        Raises:
            SettingsError: the adapter has no adaptive fusion.
            DataError: as `answer`.
        """
        asked = _question(image, question, choices, hint) | {"caption": not question}
        with _checked(self.trained, [asked]) as parsed:
            refuse_unexplainable(self.trained, parsed)
            (answer,) = self.ask(parsed)
            return explain(self._predictor, parsed[0], answer)

    def ask(self, requests: Sequence[Request], *, batch_size: int = 16) -> Iterator[Answer]:
        """Answer requests that were checked, batch by batch, in their order.

        What is unlike the training stands in the answers, and is logged before the first one.
        """
        warnings = unfamiliar_requests(self.trained, self._predictor.tokenizer, requests)
        tell_unfamiliar(warnings)
        for start in range(0, len(requests), batch_size):
            for answer in self._predictor.answer(requests[start : start + batch_size]):
                yield replace(answer, warnings=tuple(warnings[answer.request_id]))

    def map_folder(self, folder: Path) -> MapFolder:
        """Return a folder that keeps the fusion maps of what was asked."""
        return MapFolder(self._predictor, folder)


def _question(
    image: "ImageLike | None", question: str, choices: Sequence[str], hint: str
) -> dict[str, object]:
    several = choices if isinstance(choices, str) else list(choices) or None  # a text is refused
    return {"image": image, "question": question, "choices": several, "hint": hint}


@contextmanager
def _checked(
    trained: TrainedAdapter, requests: Iterable[Mapping[str, object]]
) -> Iterator[list[Request]]:
    """Give requests whose images are files, those of Pillow for as long as the block is open."""
    with TemporaryDirectory(prefix="ademvl-") as folder:
        parsed: dict[str, Request] = {}
        findings: list[str] = []
        for number, raw in enumerate(requests, 1):
            image = image_file(raw.get("image"), Path(folder) / f"{number}.tiff")
            request, wrong = parse_request(
                {**raw, "image": image}, request_id=str(number), folder=Path()
            )
            if request and request.request_id in parsed:
                wrong = [f"id {request.request_id!r} is that of another one"]
            findings += [f"request {number}: {what}" for what in wrong]
            parsed |= {request.request_id: request} if request else {}
        if findings:
            raise DataError(list_findings("malformed requests", findings, _REMEDY))
        asked = list(parsed.values())
        refuse_withheld_images(trained, asked)
        check_request_images(asked)
        yield asked


def image_file(image: object, file: Path) -> object:
    """Return the path of an image as text; one of Pillow is written to `file`, a TIFF.

    Raises:
        DataError: its mode is none that image files have.
    """
    from PIL.Image import Image

    if not isinstance(image, Image):
        return str(image) if isinstance(image, Path) else image
    try:
        image.save(file)
    except (OSError, KeyError) as error:
        remedy = 'Convert it first: image.convert("RGB").'
        raise DataError(f"image of mode {image.mode} cannot be kept ({error}). {remedy}") from error
    return str(file)
