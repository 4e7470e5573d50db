"""Answers the MME benchmark with a trained run, and scores the answers.

Answers are generated after the prompt of instruction data. Images are preprocessed as in the run's
own training.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.data.examples import mme_examples
from ademvl.data.mme import TASKS, MmeAnswer, MmeQuestion, load_benchmark, write_answers
from ademvl.data.tokenizer import Tokenizer
from ademvl.errors import DataError
from ademvl.evaluation.mme import score_answers
from ademvl.evaluation.predictions import Row
from ademvl.evaluation.task import EvaluationTask, TaskPredictions

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.model.vision_language import VisionLanguageModel


def answer_benchmark(
    run_dir: Path,
    benchmark: Path,
    answers: Path,
    *,
    max_new_tokens: int | None = None,
) -> None:
    """Answer every question of a benchmark folder and write `answers`/<task>.txt.

    The run's own predictions are used where they are of the same questions and settings; new ones
    are kept beside `answers`, in <answers>.predictions, because the run's are the study's.

    Args:
        run_dir: folder with run.yaml and adapter/.
        benchmark: folder of the benchmark, whole or some of its tasks.
        answers: folder that gets one file a task.
        max_new_tokens: tokens of an answer at most; None for the run's own.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, ToolError: what is wrong, what to do.
    """
    from ademvl.config.settings_files import read_run
    from ademvl.llm.tokenizer import load_llm_tokenizer
    from ademvl.storage.locks import lock_file

    run = read_run(run_dir)
    if max_new_tokens is not None:
        run = replace(run, evaluation=replace(run.evaluation, max_new_tokens=max_new_tokens))
    questions = load_benchmark(benchmark)
    asked = {question.task for question in questions}
    stale = [task for task in TASKS if task not in asked and (answers / f"{task}.txt").exists()]
    if stale:
        raise DataError(
            f"{answers}: holds answers to {', '.join(stale)}, which {benchmark} does not ask. "
            "Name another folder, or remove them."
        )
    tokenizer = load_llm_tokenizer(run.backbones)
    with lock_file(run_dir / ".evaluate.lock"):
        task = mme_task(run, tokenizer, questions)
        kept = answers.with_name(f"{answers.name}.predictions")
        predictions = TaskPredictions(run, run_dir, task, tokenizer, other_folder=kept)
        rows = predictions.make(predictions.tokenize(), progress=True)
    write_answers(answers, _by_task(questions, rows))


def mme_task(
    run: RunSettings, tokenizer: Tokenizer, questions: Sequence[MmeQuestion]
) -> EvaluationTask:
    """Return what is asked of a run, and how its answers are scored.

    A benchmark that is cut down on purpose is scored, too; its scores say what is missing, and
    sums of groups that lack anything are null.

    Raises:
        DataError: an image is missing.
    """
    from ademvl.evaluation.generation import generate_texts

    def predict(model: "VisionLanguageModel", batch: "Batch", visual: Any) -> Sequence[Row]:
        texts = generate_texts(model, batch, visual, run, tokenizer)
        return [
            {"id": item_id, "text": text}
            for item_id, text in zip(batch.item_ids, texts, strict=True)
        ]

    return EvaluationTask(
        name="mme",
        examples=mme_examples(questions, run.images),
        max_new_tokens=run.evaluation.max_new_tokens,
        predict=predict,
        score=lambda rows: score_answers(_by_task(questions, rows)),
        data=benchmark_checksum(questions),
    )


def benchmark_checksum(questions: Sequence[MmeQuestion]) -> dict[str, str]:
    """Return a checksum of questions, gold answers and the bytes of the images, named `mme`."""
    from ademvl.vision.features.image_digests import digest_images

    digests = digest_images([question.image for question in questions], progress=True)
    rows = [[q.task, digests[q.image], q.image.name, q.question, q.gold] for q in questions]
    return {"mme": hashlib.sha256(json.dumps(rows).encode()).hexdigest()}


def _by_task(questions: Sequence[MmeQuestion], rows: Sequence[Row]) -> dict[str, list[MmeAnswer]]:
    answers: dict[str, list[MmeAnswer]] = {}
    for question, row in zip(questions, rows, strict=True):
        answer = MmeAnswer(
            question.image.name, question.question, question.gold, str(row["text"]).strip()
        )
        answers.setdefault(question.task, []).append(answer)
    return answers
