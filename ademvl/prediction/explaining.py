"""Fusion maps of answered requests: which patches of its image each word kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ademvl.errors import SettingsError
from ademvl.prediction.answering import Answer, Predictor
from ademvl.prediction.requests import Request
from ademvl.reporting.figures.plotting import plotting, save_figure
from ademvl.reporting.fusion_maps.drawing import draw_fusion_map
from ademvl.reporting.fusion_maps.items import caption_with_words, words_of_question
from ademvl.reporting.fusion_maps.write import LIST_FILE, read_word_maps
from ademvl.runs.trained_adapter import TrainedAdapter
from ademvl.storage.files import write_json


def refuse_unexplainable(trained: TrainedAdapter, requests: Sequence[Request]) -> None:
    """Make sure that there is something to draw.

    Raises:
        SettingsError: the adapter has no adaptive fusion, or no request has an image.
    """
    method = trained.run.method
    if not method.draws_scores:
        raise SettingsError(
            f"{trained.folder}: method {method.name} as trained there has no scores, which fusion "
            "maps show (adem has them with fusion: adem); leave --explain out"
        )
    if all(request.image is None for request in requests):
        raise SettingsError("--explain: no request has an image, so there is nothing to draw")


class Explainer:
    """Draws one picture for each request with an image, and lists their numbers at the end.

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
        predictor, row = self._predictor, self._predictor.row(request)
        model, source, run = predictor.model, predictor.source, predictor.run
        with predictor.computing():
            if request.wants_caption:
                row, _, tokens = caption_with_words(model, source, predictor.tokenizer, row, run)
            else:
                tokens = words_of_question(predictor.tokenizer, row)
            words, numbers = read_word_maps(model, source, row, tokens)
        stem = self._folder / f"item_{len(self._records) + 1}"
        asked = request.question or "caption"
        with plotting():
            figure = draw_fusion_map(request.image, f"{asked}  ({answer['answer']})", words)
            save_figure(figure, stem, suffixes=["png"])
        self._records.append(
            {
                "id": request.request_id,
                "image": str(request.image),
                "question": request.question,
                "answer": answer["answer"],
                "words": numbers,
                "picture": f"{stem.name}.png",
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
