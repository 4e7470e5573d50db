"""Evaluates one trained run: predictions of every item, and their scores with intervals."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.plain import to_plain
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.errors import DataError
from ademvl.evaluation.asked import Asked
from ademvl.evaluation.asking import task_of
from ademvl.evaluation.elsewhere import file_task, rows_from_file
from ademvl.evaluation.prediction_loop import load_trained
from ademvl.evaluation.sealed_scores import doubt_of, underived, write_scores
from ademvl.evaluation.task import TaskPredictions, load_run_tokenizer
from ademvl.evaluation.two_stages import answer_task
from ademvl.runs.run_files import RunFiles
from ademvl.storage.files import read_json
from ademvl.storage.locks import lock_file
from ademvl.tasks.base import Row
from ademvl.tasks.registry import questions_of

if TYPE_CHECKING:
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
    with lock_file(RunFiles(run_dir).evaluation_lock):
        _evaluate(run, run_dir, threads=threads, progress=progress)


def predict_ahead(
    run: RunSettings, run_dir: Path, model: "TrainableModel", *, progress: bool = True
) -> None:
    """Predict with a model that is in memory, for `evaluate_run` to score.

    The rows are bound to adapter, data and settings like those of an evaluation that was killed.

    Args:
        run_dir: folder with adapter/, from which the model's trained parameters are set.
        model: of the run, as it was trained.
        progress: show a progress bar on a terminal.

    Raises:
        SettingsError, DataError, WeightsError, CacheError, ToolError: what is wrong, what to do.
    """
    if run.method.kind == "trained_whole":
        return  # its first stage has to write first, and is not in memory
    from ademvl.model.adapter_file import load_adapter

    with lock_file(RunFiles(run_dir).evaluation_lock):
        tokenizer = load_run_tokenizer(run)
        predictions = TaskPredictions(
            run, run_dir, task_of(run, tokenizer, questions_of(run)), tokenizer
        )
        load_adapter(RunFiles(run_dir).adapter, model)
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
        task = task_of(run, tokenizer, questions_of(run))
    predictions = TaskPredictions(run, run_dir, task, tokenizer)
    scores_path = RunFiles(run_dir).scores(task.name)
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
