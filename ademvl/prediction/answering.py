"""Answers requests with a trained adapter, in the order in which they were asked."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ademvl.config.run import RunSettings
from ademvl.data.choices import NO_ANSWER
from ademvl.data.collate import collate
from ademvl.data.images import load_pixels, preprocessing_for
from ademvl.data.rows import TokenizedExample
from ademvl.errors import SettingsError
from ademvl.evaluation.choosing import answer_logits, letter_ids, read_answers
from ademvl.evaluation.generation import generate
from ademvl.evaluation.task import tokenize_prompts
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.machine.cpu_kernels import fast_cpu
from ademvl.machine.precision import DTYPES, autocast
from ademvl.model.adapter_file import load_adapter
from ademvl.model.build import build_model
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.prediction.answers import Answer
from ademvl.prediction.rendering import render
from ademvl.prediction.requests import Request
from ademvl.runs.trained_adapter import TrainedAdapter
from ademvl.tasks.coco_caption.reader import extract_caption
from ademvl.vision.features.source import VisualSource, online_pixels

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.vision.tower import VisionTower


class Predictor:
    """Answers with one adapter; its models are loaded once.

    Args:
        trained: adapter and settings.

    Attributes:
        run: settings in force.
        model: with the adapter, in evaluation mode.
        tokenizer: of the language model.

    Raises:
        SettingsError, WeightsError: what is missing or does not fit.
    """

    def __init__(self, trained: TrainedAdapter) -> None:
        self.run = trained.run
        self.tokenizer = load_llm_tokenizer(self.run.backbones)
        self.model = build_model(self.run)
        load_adapter(trained.folder, self.model)
        self.model.eval()

    @cached_property
    def source(self) -> VisualSource:
        """Visual inputs of any image file; a frozen tower is loaded for the first one."""
        return _open_source(self.run, self.model)

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer a batch of requests, mixed at will.

        Returns:
            One for each, in their order.
        """
        kinds: dict[str, list[Request]] = {}
        for request in requests:
            kinds.setdefault(request.kind, []).append(request)
        answers: dict[str, Answer] = {}
        for kind, members in kinds.items():
            found = self._choose(members) if kind == "choice" else self._write(members)
            answers.update((answer.request_id, answer) for answer in found)
        return [answers[request.request_id] for request in requests]

    def row(self, request: Request) -> TokenizedExample:
        """Return the row of tokens that the language model reads for a request."""
        return self._rows([request])[0]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Open a block in which the model computes as in an evaluation."""
        device = self.model.device
        casting = autocast(device, self.run.backbones.precision)
        with fast_cpu(device), torch.inference_mode(), casting:
            yield

    def _choose(self, requests: Sequence[Request]) -> list[Answer]:
        batch = self._batch(requests)
        by_id = {request.request_id: request for request in requests}
        num_choices = {request_id: len(r.choices) for request_id, r in by_id.items()}
        with self.computing():
            logits = answer_logits(self.model, batch, self.visual(batch))
        answer_by = self.run.evaluation.answer_by
        rows = read_answers(
            self.tokenizer, batch.item_ids, logits, num_choices, answer_by=answer_by
        )
        letters = {count: self._letters(count) for count in set(num_choices.values())}
        return [
            _with_choice(row, by_id[str(row["id"])], row_logits, letters)
            for row, row_logits in zip(rows, logits, strict=True)
        ]

    def _letters(self, num_choices: int) -> list[int]:
        """Return the tokens of the choices' letters; none where the tokenizer splits a letter."""
        try:
            return letter_ids(self.tokenizer, num_choices)
        except SettingsError:
            return []

    def _write(self, requests: Sequence[Request]) -> list[Answer]:
        batch = self._batch(requests)
        evaluation = self.run.evaluation
        with self.computing():
            generated = generate(
                self.model,
                batch,
                self.visual(batch),
                max_new_tokens=evaluation.max_new_tokens,
                eos_id=self.tokenizer.eos_id,
                decoding=evaluation.decoding,
                seed=self.run.seed,
            )
        answers = []
        for request, ids in zip(requests, generated, strict=True):
            text = self.tokenizer.decode(ids)
            answer = extract_caption(text) if request.wants_caption else text.strip()
            answers.append(Answer(request_id=request.request_id, answer=answer, text=text))
        return answers

    def visual(self, batch: "Batch") -> Tensor | None:
        """Return the visual input of a batch; None without any image."""
        return self.source.for_batch(batch) if any(batch.images) else None

    def _batch(self, requests: Sequence[Request]) -> "Batch":
        return collate(self._rows(requests), trim_after_labels=False)

    def _rows(self, requests: Sequence[Request]) -> list[TokenizedExample]:
        """Tokenize requests of one kind; a prompt that is too long is cut as in an evaluation."""
        is_choice = requests[0].kind == "choice"
        max_new_tokens = 1 if is_choice else self.run.evaluation.max_new_tokens
        examples = [render(request, self.run) for request in requests]
        return tokenize_prompts(self.run, self.tokenizer, examples, max_new_tokens=max_new_tokens)


def choice_probabilities(logits: Tensor, letters: Sequence[int]) -> tuple[float, ...] | None:
    """Return how probable each choice is, if the answer is one of their letters.

    Args:
        logits: of the token that answers, (V,).
        letters: its id for each choice; none where a letter is more than one token.

    Returns:
        Softmax over the letters' logits alone, rounded to six decimals; None without letters.
    """
    if not letters:
        return None
    shares = logits[list(letters)].double().softmax(dim=0)
    return tuple(round(share, 6) for share in shares.tolist())


def _with_choice(
    row: Mapping[str, Any],
    request: Request,
    logits: Tensor,
    letters: Mapping[int, Sequence[int]],
) -> Answer:
    index = row["predicted_index"]
    return Answer(
        request_id=request.request_id,
        answer=None if index == NO_ANSWER else request.choices[index],
        text=row["text"],
        predicted_index=index,
        probabilities=choice_probabilities(logits, letters[len(request.choices)]),
    )


def _open_source(run: RunSettings, model: VisionLanguageModel) -> VisualSource:
    """Return the visual input of image files that belong to no data set: nothing is cached."""
    if model.tower is not None:
        preprocessing = preprocessing_for(
            run.task, model.tower.image_size, run.features.normalization
        )
        return online_pixels(preprocessing, max_bytes=0)  # a file may change between questions
    from ademvl.vision.tower import load_tower

    return _FrozenFeatures(load_tower(run.backbones).eval().to(model.device), run)


class _FrozenFeatures:
    """Encodes images through the frozen tower, as the feature cache does, but keeps nothing."""

    def __init__(self, tower: "VisionTower", run: RunSettings) -> None:
        self._tower = tower
        self._preprocessing = preprocessing_for(
            run.task, tower.image_size, run.features.normalization
        )
        self._states = run.method.tower_states
        self._dtype = DTYPES[run.features.precision]

    def for_batch(self, batch: "Batch", *, epoch: int = 0) -> torch.Tensor | None:
        """Return features (B_img, N, C) in the precision of the run's cache."""
        paths: list[Path] = [path for path in batch.images if path is not None]
        if not paths:
            return None
        pixels = torch.stack([load_pixels(path, self._preprocessing) for path in paths])
        weights = next(self._tower.parameters())
        device_type = weights.device.type
        with torch.inference_mode(), torch.autocast(device_type, enabled=False):
            features = self._tower.encode(pixels.to(weights.device, weights.dtype), self._states)
        return features.to(self._dtype)
