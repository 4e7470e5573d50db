"""Answers of a system that was measured elsewhere, as the rows of a run's own predictions.

The file is one that `ademvl score` reads; it has to answer all that the run is asked, so that
its row has the intervals and paired tests of all others.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings, Task
from ademvl.data.captions import load_caption_images
from ademvl.data.choices import NO_ANSWER
from ademvl.data.examples import evaluation_examples
from ademvl.data.mme import load_benchmark
from ademvl.data.scienceqa import load_scienceqa
from ademvl.errors import DataError, list_findings
from ademvl.evaluation.asked import asked_of
from ademvl.evaluation.captions.files import read_results
from ademvl.evaluation.mme_files import picture_and_question, read_mme_answers
from ademvl.evaluation.predictions import Row
from ademvl.evaluation.scienceqa_files import read_predictions
from ademvl.evaluation.task import EvaluationTask
from ademvl.systems.elsewhere.settings import ElsewhereSettings

if TYPE_CHECKING:
    from ademvl.data.collate import Batch
    from ademvl.model.build import Answering

_REMEDY = "Give a file that answers the whole split, or choose another one by evaluation.split."


def file_task(run: RunSettings) -> EvaluationTask:
    """Return what the file of a run has to answer.

    Raises:
        DataError: the data set is missing or malformed.
    """
    return EvaluationTask(
        name=run.evaluation_task,
        examples=evaluation_examples(run),
        max_new_tokens=0,
        predict=_ask_nobody,
        asked=asked_of(run),
    )


def _ask_nobody(model: "Answering", batch: "Batch", visual: Any) -> Sequence[Row]:
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
    rows = {str(row["id"]): row for row in _READERS[run.task](run)}
    findings = [f"item {item}: no answer" for item in item_ids if item not in rows]
    asked = set(item_ids)
    findings += [f"item {item}: is not asked" for item in rows if item not in asked]
    if findings:
        raise DataError(list_findings(f"{run.released_from}: other items", findings, _REMEDY))
    return [rows[item] for item in item_ids]


def _choices(run: RunSettings) -> list[Row]:
    if not isinstance(run.method, ElsewhereSettings):
        raise TypeError(f"{run.method.name} reads no file")
    problems = load_scienceqa(Path(run.data_dir)).split(run.evaluation.split)
    read = read_predictions(Path(run.released_from), problems, rule=run.method.text_rule)
    return [
        {
            "id": question_id,
            "text": "" if index == NO_ANSWER else ascii_uppercase[index],
            "predicted_index": index,
        }
        for question_id, index in read.predicted_index.items()
    ]


def _captions(run: RunSettings) -> list[Row]:
    root, captions = Path(run.data_dir), read_results(Path(run.released_from)).captions
    known = {image.image_id for image in load_caption_images(root, run.evaluation.split)}
    return [
        {"id": str(image_id), "text": caption, "caption": caption}
        for image_id, caption in captions.items()
        if image_id in known  # results of a whole year's images hold those of the split
    ]


def _mme_answers(run: RunSettings) -> list[Row]:
    benchmark = Path(run.evaluation_data_dir)
    found = {
        picture_and_question(task, answer.image, answer.question): answer.answer
        for task, answers in read_mme_answers(Path(run.released_from), benchmark).items()
        for answer in answers
    }
    questions = load_benchmark(benchmark)
    examples = evaluation_examples(run)
    places = [
        picture_and_question(question.task, question.image.name, question.question)
        for question in questions
    ]
    return [
        {"id": example.item_id, "text": found[place]}
        for example, place in zip(examples, places, strict=True)
        if place in found
    ]


_READERS: Mapping[Task, Callable[[RunSettings], list[Row]]] = {
    "scienceqa": _choices,
    "coco_caption": _captions,
    "instruction": _mme_answers,
}
