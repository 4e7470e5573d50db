"""Evaluates one trained run: predictions of every item, and their scores with intervals."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.plain import to_plain
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.data.captions import extract_caption, load_caption_images
from ademvl.data.examples import caption_evaluation_examples, scienceqa_evaluation_examples
from ademvl.data.mme import load_benchmark
from ademvl.data.scienceqa import load_scienceqa
from ademvl.data.tokenizer import Tokenizer
from ademvl.errors import DataError
from ademvl.evaluation.asked import Asked, ask_captions, ask_scienceqa
from ademvl.evaluation.elsewhere import file_task, rows_from_file
from ademvl.evaluation.mme_run import mme_task
from ademvl.evaluation.prediction_loop import load_trained
from ademvl.evaluation.predictions import Row
from ademvl.evaluation.scienceqa import answer_batch, letter_ids
from ademvl.evaluation.sealed_scores import doubt_of, underived, write_scores
from ademvl.evaluation.task import EvaluationTask, TaskPredictions, load_run_tokenizer
from ademvl.evaluation.two_stages import answer_task
from ademvl.storage.files import read_json
from ademvl.storage.locks import lock_file

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.model.build import Answering
    from ademvl.systems.trained import TrainableModel

_log = logging.getLogger(__name__)


def evaluate_run(run_dir: Path, *, threads: int | None = None, progress: bool = True) -> None:
    """Predict and score the run in `run_dir`; do nothing when it is done for the same adapter.

    Killed at any moment, the same call goes on after the last whole batch. Where the process that
    trained has predicted all, no model is loaded.

    Args:
        run_dir: folder with run.yaml and adapter/.
        threads: of torch on the CPU; None leaves its own choice.
        progress: show a progress bar on a terminal.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, ToolError: what is wrong, what to do.
    """
    run = read_run(run_dir)
    # An evaluation whose workflow was killed may still be at work here: wait for it.
    with lock_file(run_dir / ".evaluate.lock"):
        _evaluate(run, run_dir, threads=threads, progress=progress)


def predict_ahead(
    run: RunSettings, run_dir: Path, model: "TrainableModel", *, progress: bool = True
) -> None:
    """Predict with a model that is in memory, for `evaluate_run` to score.

    The rows are bound to adapter, data and settings like those of an evaluation that was killed.

    Args:
        run: settings.
        run_dir: folder with adapter/, from which the model's trained parameters are set.
        model: of the run, as it was trained.
        progress: show a progress bar on a terminal.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, ToolError: what is wrong, what to do.
    """
    if run.method.kind == "trained_whole":
        return  # its first stage has to write first, and is not in memory
    from ademvl.model.adapter_file import load_adapter

    with lock_file(run_dir / ".evaluate.lock"):
        tokenizer = load_run_tokenizer(run)
        predictions = TaskPredictions(run, run_dir, _task_of(run, tokenizer), tokenizer)
        load_adapter(run_dir / "adapter", model)
        predictions.make(
            predictions.tokenize(), progress=progress, load_model=model.eval, ahead=True
        )


def _evaluate(run: RunSettings, run_dir: Path, *, threads: int | None, progress: bool) -> None:
    tokenizer = None if run.method.kind == "elsewhere" else load_run_tokenizer(run)
    if tokenizer is None:
        task = file_task(run)
    elif run.method.kind == "trained_whole":
        task = answer_task(run, run_dir, tokenizer, threads=threads, progress=progress)
    else:
        task = _task_of(run, tokenizer)
    predictions = TaskPredictions(run, run_dir, task, tokenizer)
    scores_path = run_dir / "scores" / f"{task.name}.json"
    rows = predictions.read_complete()
    if rows is not None and _is_current(scores_path, predictions, task.asked, rows):
        _log.info("%s: already evaluated with this adapter", run_dir)
        return
    shortened = 0
    if tokenizer is None:
        rows = predictions.keep(rows_from_file(run, predictions.item_ids))
    else:
        tokenized = predictions.tokenize()
        rows = predictions.make(
            tokenized,
            progress=progress,
            load_model=lambda: load_trained(run, run_dir, threads=threads),
        )
        shortened = sum(row.is_shortened for row in tokenized)
    settings = to_plain(run.evaluation) | {"prompts": run.prompts.evaluation}
    identity = {"task": run.task, "study": run.study, "run": run.name, "seed": run.seed}
    counts = {"n": len(rows), "num_shortened_prompts": shortened}
    scores = identity | counts | {"settings": settings, "header": predictions.header}
    write_scores(scores_path, scores | task.asked.score(rows), predictions.path)


def _task_of(run: RunSettings, tokenizer: Tokenizer) -> EvaluationTask:
    if run.task == "coco_caption":
        return _caption_task(run, tokenizer)
    if run.task == "instruction":
        questions = load_benchmark(Path(run.evaluation_data_dir))
        return mme_task(run, tokenizer, questions)
    return _qa_task(run, tokenizer)


def _is_current(
    scores_path: Path, predictions: TaskPredictions, asked: Asked, rows: Sequence[Row]
) -> bool:
    """Tell whether scores are there that follow from these predictions."""
    try:
        found = read_json(scores_path, remedy="It is written anew.")
    except DataError:
        return False
    if not isinstance(found, dict) or found.get("header") != predictions.header:
        return False
    doubt = doubt_of(found, predictions.path) or underived(found, asked, rows)
    if doubt:
        _log.warning("%s: %s; written anew from the predictions", scores_path, doubt)
    return not doubt


def _qa_task(run: RunSettings, tokenizer: Tokenizer) -> EvaluationTask:
    dataset = load_scienceqa(Path(run.data_dir))
    split = run.evaluation.split
    problems = dataset.split(split)
    num_choices = {problem.question_id: len(problem.choices) for problem in problems}
    answer_by = run.evaluation.answer_by
    if answer_by == "likelihood":
        letter_ids(tokenizer, max(num_choices.values(), default=0))

    def predict(model: Any, batch: "Batch", visual: Any) -> Sequence[Row]:
        return answer_batch(model, tokenizer, batch, visual, num_choices, answer_by=answer_by)

    return EvaluationTask(
        name=run.task,
        examples=scienceqa_evaluation_examples(dataset, split, run.prompts, run.images),
        max_new_tokens=1,
        predict=predict,
        asked=ask_scienceqa(dataset, run),
    )


def _caption_task(run: RunSettings, tokenizer: Tokenizer) -> EvaluationTask:
    root, split = Path(run.data_dir), run.evaluation.split
    images = load_caption_images(root, split)
    examples = caption_evaluation_examples(root, split, run.images, run.prompts)

    def predict(model: "Answering", batch: "Batch", visual: Any) -> Sequence[Row]:
        from ademvl.evaluation.generation import generate_texts

        texts = generate_texts(model, batch, visual, run, tokenizer)
        return [
            {"id": item_id, "text": text, "caption": extract_caption(text)}
            for item_id, text in zip(batch.item_ids, texts, strict=True)
        ]

    return EvaluationTask(
        name=run.task,
        examples=examples,
        max_new_tokens=run.evaluation.max_new_tokens,
        predict=predict,
        asked=ask_captions(root, images, run),
    )
