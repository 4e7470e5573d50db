"""What general code may know of a task: its facts, and which tasks there are.

- A task is a folder `ademvl/tasks/<name>/`. Its `facts.py`, which imports nothing heavy, tells all
  that settings, identities, plans and reports need to know; `task.py` beside it does the work.
- Tasks are found by their folder. The order of the paper's tables comes first, then that of names.
- A folder may bring data sets alone, such as one that another task is evaluated on.
"""

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, TypeAlias

import ademvl
from ademvl.config.task_facts import LARGEST_PERCENT, ScoreColumn, SourceFacts, TaskFacts

_FOLDER = Path(ademvl.__file__).parent / "tasks"
_FIRST = ("scienceqa", "coco_caption", "instruction")


@cache
def all_facts() -> Mapping[str, TaskFacts]:
    """Return the facts of all tasks by name, in the order of tables."""
    found = (getattr(module, "FACTS", None) for module in _facts_modules())
    return {facts.name: facts for facts in found if facts is not None}


@cache
def all_sources() -> Mapping[str, SourceFacts]:
    """Return all data sets that others publish, by name."""
    sources = (source for module in _facts_modules() for source in module.SOURCES)
    return {source.name: source for source in sources}


def facts_of(task: str) -> TaskFacts:
    """Return the facts of a task."""
    return all_facts()[task]


def facts_evaluated_as(name: str) -> TaskFacts:
    """Return the facts of the task whose score files have a name, such as `mme`."""
    return next(facts for facts in all_facts().values() if facts.evaluated_as == name)


def score_columns() -> tuple[ScoreColumn, ...]:
    """Return the columns of all tasks' scores."""
    return tuple(column for facts in all_facts().values() for column in facts.columns)


def largest_score(header: str) -> float:
    """Return the largest value of a score, in the unit of tables; 100 where no task has it."""
    found = (column.largest for column in score_columns() if column.header == header)
    return next(found, LARGEST_PERCENT)


@cache
def task_folders() -> tuple[str, ...]:
    """Return the names of all folders of tasks, in the order of tables."""
    names = [path.parent.name for path in _FOLDER.glob("*/facts.py")]
    place = {name: number for number, name in enumerate(_FIRST)}
    return tuple(sorted(names, key=lambda name: (place.get(name, len(place)), name)))


def _facts_modules() -> list[ModuleType]:
    return [importlib.import_module(f"ademvl.tasks.{name}.facts") for name in task_folders()]


if TYPE_CHECKING:
    TaskName: TypeAlias = str
else:
    TaskName = Literal[tuple(all_facts())]
"""Name of a task, as settings have it."""
