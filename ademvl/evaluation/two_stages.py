"""Evaluates MM-CoT: its first stage writes a rationale of every question, its second the answers.

Rationales are kept beside the first stage's weights, and made once: a killed evaluation goes on
behind the last whole batch of either stage.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.data.choices import NO_ANSWER
from ademvl.data.tokenizer import Tokenizer
from ademvl.evaluation.asked import Asked, asked_of
from ademvl.evaluation.prediction_loop import load_trained
from ademvl.evaluation.task import EvaluationTask, TaskPredictions
from ademvl.randomness import derive_seed
from ademvl.runs.run_files import RATIONALE
from ademvl.systems.mm_cot.prompts import RATIONALE_CUE, stated_choice, stated_letter
from ademvl.systems.mm_cot.rows import settings_of, stage_examples
from ademvl.tasks.base import Row
from ademvl.tasks.scienceqa.reader import load_scienceqa

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.model.build import Answering

_GUESSED_AMONG = 5
"""Letters that the released code guesses among, however many choices there are."""


def answer_task(
    run: RunSettings,
    run_dir: Path,
    tokenizer: Tokenizer,
    *,
    threads: int | None,
    progress: bool,
) -> EvaluationTask:
    """Return what the second stage is asked, the first stage's rationales in its texts.

    Raises:
        SettingsError, DataError, WeightsError, CacheError: what is wrong, what to do.
    """
    asked = asked_of(run)
    rationales = _rationales(run, run_dir, tokenizer, asked, threads=threads, progress=progress)
    problems = load_scienceqa(Path(run.data_dir)).split(run.evaluation.split)
    counts = {problem.question_id: len(problem.choices) for problem in problems}
    settings = settings_of(run)

    def predict(model: "Answering", batch: "Batch", visual: Any) -> Sequence[Row]:
        texts = _texts(model, batch, visual, run, tokenizer, settings.max_answer_tokens)
        return [
            {
                "id": item_id,
                "text": text,
                "predicted_index": stated_index(run, item_id, text, num_choices=counts[item_id]),
                "states_answer": stated_letter(text) is not None,
                "rationale": rationales[item_id],
            }
            for item_id, text in zip(batch.item_ids, texts, strict=True)
        ]

    told = hashlib.sha256(json.dumps(rationales, sort_keys=True).encode()).hexdigest()
    return EvaluationTask(
        name=run.evaluation_task,
        examples=stage_examples(run, run.evaluation.split, "answer", rationales),
        max_new_tokens=settings.max_answer_tokens,
        predict=predict,
        asked=replace(asked, data={**asked.data, "rationales": told}, score=_score(asked)),
    )


def _rationales(
    run: RunSettings,
    run_dir: Path,
    tokenizer: Tokenizer,
    asked: Asked,
    *,
    threads: int | None,
    progress: bool,
) -> dict[str, str]:
    """Return the rationale of every question by id, written as far as they are not there."""
    length = settings_of(run).max_rationale_tokens

    def predict(model: "Answering", batch: "Batch", visual: Any) -> Sequence[Row]:
        texts = _texts(model, batch, visual, run, tokenizer, length)
        return [
            {"id": item, "text": text} for item, text in zip(batch.item_ids, texts, strict=True)
        ]

    task = EvaluationTask(
        name=RATIONALE,
        examples=stage_examples(run, run.evaluation.split, "rationale"),
        max_new_tokens=length,
        predict=predict,
        asked=asked,
    )
    folder = run_dir / RATIONALE
    predictions = TaskPredictions(run, folder, task, tokenizer)
    rows = predictions.read_complete()
    if rows is None:
        rows = predictions.make(
            predictions.tokenize(),
            progress=progress,
            load_model=lambda: load_trained(run, folder, threads=threads),
        )
    return {str(row["id"]): str(row["text"]) or RATIONALE_CUE for row in rows}


def _texts(
    model: "Answering",
    batch: "Batch",
    visual: Any,
    run: RunSettings,
    tokenizer: Tokenizer,
    max_new_tokens: int,
) -> list[str]:
    from ademvl.evaluation.generation import generate_texts

    texts = generate_texts(model, batch, visual, run, tokenizer, max_new_tokens=max_new_tokens)
    return [text.strip() for text in texts]


def stated_index(run: RunSettings, question_id: str, text: str, *, num_choices: int) -> int:
    """Return the choice that a text states; where it states none, what the settings say."""
    if stated_letter(text) is None and settings_of(run).no_answer == "random":
        guess = random.Random(derive_seed(run.seed, "guess", question_id)).randrange(_GUESSED_AMONG)
        return guess if guess < num_choices else NO_ANSWER
    return stated_choice(text, num_choices=num_choices)


def _score(asked: Asked) -> Any:
    """Return a scoring that also counts texts that do not state exactly one answer."""

    def score(rows: Sequence[Row]) -> dict[str, object]:
        unstated = sum(not row["states_answer"] for row in rows)
        found: Mapping[str, object] = asked.score(rows)
        return {**found, "num_without_stated_answer": unstated}

    return score
