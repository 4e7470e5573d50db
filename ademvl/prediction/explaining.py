"""Fusion maps of answered requests: which patches of its image each word kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ademvl.data.image_files import open_rgb
from ademvl.errors import SettingsError
from ademvl.prediction.answering import Predictor
from ademvl.prediction.answers import Answer
from ademvl.prediction.requests import Request
from ademvl.reporting.figures.plotting import plotting, save_figure
from ademvl.reporting.fusion_maps.drawing import WordMap, draw_fusion_map
from ademvl.reporting.fusion_maps.items import caption_with_words, words_of_question
from ademvl.reporting.fusion_maps.painting import marks_of_layer, marks_over_layers, paint
from ademvl.reporting.fusion_maps.write import LIST_FILE, read_word_maps
from ademvl.runs.trained_adapter import TrainedAdapter
from ademvl.storage.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refuse_unexplainable(trained: TrainedAdapter, requests: Sequence[Request]) -> None:
    """Make sure that there is something to draw.

    Raises:
        SettingsError: the adapter has no adaptive fusion, or no request has an image.
    """
    method = trained.run.method
    if not method.draws_scores:
        raise SettingsError(
            f"{trained.folder}: method {method.name} as trained there has no scores, which fusion "
            "maps show (adem has them with fusion: adem), so there is nothing to explain"
        )
    if all(request.image is None for request in requests):
        raise SettingsError("explain: no request has an image, so there is nothing to draw")


@dataclass(frozen=True, eq=False)
class Explanation:
    """An answer, and what its words kept of the image.

    Attributes:
        answer: that is explained.
        words: of the question, then the place of the answer; or of the caption.
        picture: the image in RGB.
        title: of the sheet.
        numbers: the maps as `fusion_maps.json` has them, word by word.
    """

    answer: Answer
    words: tuple[WordMap, ...]
    picture: Image.Image
    title: str
    numbers: Sequence[Mapping[str, Any]]

    @property
    def scales(self) -> tuple[int, ...]:
        """Numbers of patches by which the image was seen, finest first."""
        return tuple(sorted(self.words[0].scores, reverse=True))

    def overlay(
        self, word: int, *, scale: int, layer: int | None = None, size: int = 384
    ) -> Image.Image:
        """Paint over the image what a word kept of it.

        Args:
            word: its place among `words`.
            scale: number of patches.
            layer: from 0; None for all layers together.
            size: of the square, pixels a side.
        """
        shown = self.words[word]
        scores, is_kept = shown.scores[scale], shown.is_kept[scale]
        marks = (
            marks_over_layers(is_kept)
            if layer is None
            else marks_of_layer(scores[layer], is_kept[layer])
        )
        return Image.fromarray(np.asarray(paint(self.picture, marks, size=size)))

    def figure(self) -> "Figure":
        """Draw the sheet of all words, scales and layers."""
        with plotting():
            return draw_fusion_map(self.picture, self.title, self.words)

    def save(self, path: Path) -> None:
        """Write the sheet as a PNG file."""
        with plotting():
            save_figure(self.figure(), path.with_suffix(""), suffixes=["png"])


def explain(predictor: Predictor, request: Request, answer: Answer) -> Explanation:
    """Recompute what the words of a request kept of its image.

    Args:
        predictor: that answered.
        request: with an image.
        answer: to it.

    Raises:
        WeightsError: scores are not finite.
    """
    if request.image is None:
        raise ValueError(f"request {request.request_id} has no image")
    model, source, run = predictor.model, predictor.source, predictor.run
    row = predictor.row(request)
    with predictor.computing():
        if request.wants_caption:
            row, _, tokens = caption_with_words(model, source, predictor.tokenizer, row, run)
        else:
            tokens = words_of_question(predictor.tokenizer, row)
        words, numbers = read_word_maps(model, source, row, tokens)
    asked = request.question or "caption"
    return Explanation(
        answer=answer,
        words=tuple(words),
        picture=open_rgb(request.image),
        title=f"{asked}  ({answer.answer})",
        numbers=numbers,
    )


class MapFolder:
    """Keeps one picture for each explained request, and lists their numbers at the end.

    Args:
        predictor: that answered.
        folder: gets item_1.png, ... in the order of the requests, and fusion_maps.json last.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self._predictor = predictor
        self._folder = folder
        self._records: list[dict[str, Any]] = []

    def add(self, request: Request, answer: Answer) -> None:
        """Draw one request; without an image nothing is done."""
        if request.image is None:
            return
        found = explain(self._predictor, request, answer)
        picture = self._folder / f"item_{len(self._records) + 1}.png"
        found.save(picture)
        self._records.append(
            {
                "id": request.request_id,
                "image": str(request.image),
                "question": request.question,
                "answer": answer.answer,
                "words": found.numbers,
                "picture": picture.name,
            }
        )

    def finish(self) -> None:
        """Write the list of pictures with their numbers."""
        grids = self._predictor.model.method.score_grids()
        content = {
            "gamma": grids.gamma,
            "scales": list(grids.scales),
            "items": self._records,
        }
        write_json(self._folder / LIST_FILE, content)
