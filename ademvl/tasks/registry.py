"""Finds what stands in the folders of tasks: what each does, and how its data set is laid out."""

import importlib
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.config.tasks import TaskName, all_facts
from ademvl.data.examples import Example
from ademvl.data.findings import DataFinding
from ademvl.errors import DataError
from ademvl.tasks.base import Questions, Task
from ademvl.tasks.data_layout import DataLayout, Inspection


def task_named(name: TaskName) -> Task:
    """Return what a task does."""
    task: Task = importlib.import_module(f"ademvl.tasks.{name}.task").TASK
    return task


def task_of_data(root: Path) -> Task:
    """Return the first task that is evaluated on data such as a folder holds.

    Raises:
        DataError: there is none.
    """
    for name in all_facts():
        if (task := task_named(name)).is_data(root):
            return task
    known = ", ".join(facts.evaluated_as for facts in all_facts().values())
    raise DataError(f"{root}: no data set of {known} lies there; name its folder")


def training_examples(run: RunSettings) -> list[Example]:
    """Read and render the training split of a run's data set.

    Raises:
        DataError: the data set is missing or malformed.
    """
    return task_named(run.task).training_examples(run)


def questions_of(run: RunSettings, *, look_at_images: bool = True) -> Questions:
    """Read what a run is evaluated on, see `Task.questions`.

    Raises:
        DataError: the data set is missing or malformed.
    """
    return task_named(run.task).questions(
        Path(run.evaluated_dir), run.evaluation.split, look_at_images=look_at_images
    )


def evaluation_examples(run: RunSettings) -> list[Example]:
    """Read and render what a run is evaluated on.

    Raises:
        DataError: the data set is missing or malformed.
    """
    return questions_of(run).examples(run)


def layout_of(folder: str) -> DataLayout:
    """Return how the data set of a task or benchmark is laid out."""
    layout: DataLayout = importlib.import_module(f"ademvl.tasks.{folder}.layout").LAYOUT
    return layout


def inspect_folder(root: Path, folder: str) -> Inspection:
    """Inspect the folder of a task or benchmark; a file that cannot be read is a finding."""
    inspection = Inspection()
    try:
        layout_of(folder).inspect(root, inspection)
    except DataError as error:
        inspection.findings.append(DataFinding("file", str(error)))
    return inspection
