"""Answers of a system that was measured elsewhere, as the rows of a run's own predictions.

The file is one that `ademvl score` reads; it has to answer all that the run is asked, so that
its row has the intervals and paired tests of all others.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ademvl.config.run import RunSettings
from ademvl.errors import DataError, list_findings
from ademvl.evaluation.asked import ask
from ademvl.evaluation.task import EvaluationTask
from ademvl.systems.elsewhere.settings import ElsewhereSettings
from ademvl.tasks.base import Row
from ademvl.tasks.registry import questions_of, task_named

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.model.build import Answering

_REMEDY = "Give a file that answers the whole split, or choose another one by evaluation.split."


def file_task(run: RunSettings) -> EvaluationTask:
    """Return what the file of a run has to answer.

    Raises:
        DataError: the data set is missing or malformed.
    """
    questions = questions_of(run)
    return EvaluationTask(
        name=run.evaluation_task,
        examples=questions.examples(run),
        max_new_tokens=0,
        predict=_ask_nobody,
        asked=ask(questions, run),
    )


def _ask_nobody(model: "Answering", batch: "Batch", visual: object) -> Sequence[Row]:
    raise TypeError("answers from a file are read, not asked for")


def rows_from_file(run: RunSettings, item_ids: Sequence[str]) -> list[Row]:
    """Read the answers of a run's file.

    Args:
        run: settings; `released_from` is the file.
        item_ids: of all items, in data set order.

    Returns:
        One row an item, in order, as the predictions of a run's own have them.

    Raises:
        DataError: the file is missing, malformed, or does not answer exactly these items.
    """
    if not isinstance(run.method, ElsewhereSettings):
        raise TypeError(f"{run.method.name} reads no file")
    read = task_named(run.task).rows_in_file(run, text_rule=run.method.text_rule)
    rows = {str(row["id"]): row for row in read}
    findings = [f"item {item}: no answer" for item in item_ids if item not in rows]
    asked = set(item_ids)
    findings += [f"item {item}: is not asked" for item in rows if item not in asked]
    if findings:
        raise DataError(list_findings(f"{run.released_from}: other items", findings, _REMEDY))
    return [rows[item] for item in item_ids]
