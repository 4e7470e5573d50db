"""Answers the MME benchmark with a trained run, in files that the benchmark's own tool reads.

Answers are generated after the prompt of instruction data. Images are preprocessed as in the run's
own training.
"""

from dataclasses import replace
from pathlib import Path

from ademvl.errors import DataError
from ademvl.evaluation.asking import task_of
from ademvl.evaluation.prediction_loop import load_trained
from ademvl.evaluation.task import TaskPredictions, load_run_tokenizer
from ademvl.runs.run_files import RunFiles
from ademvl.tasks.mme.questions import MmeQuestions, answers_by_task
from ademvl.tasks.mme.reader import TASKS, load_benchmark, write_answers


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
    tokenizer = load_run_tokenizer(run)
    with lock_file(RunFiles(run_dir).evaluation_lock):
        task = task_of(run, tokenizer, MmeQuestions(questions))
        kept = answers.with_name(f"{answers.name}.predictions")
        predictions = TaskPredictions(run, run_dir, task, tokenizer, other_folder=kept)
        rows = predictions.make(
            predictions.tokenize(), load_model=lambda: load_trained(run, run_dir), progress=True
        )
    write_answers(answers, answers_by_task(questions, rows))
