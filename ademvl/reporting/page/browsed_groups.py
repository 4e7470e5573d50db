"""Runs whose answers can be compared item by item, and the categories of their questions.

A group is one task on one split of one data set. What keeps a run out of it is told.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.task_facts import TaskFacts
from ademvl.config.tasks import facts_of
from ademvl.errors import DataError
from ademvl.reporting.printable import printable
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import SeedResult
from ademvl.runs.run_files import RunFiles
from ademvl.storage.files import read_json_lines

if TYPE_CHECKING:
    from ademvl.tasks.base import ShownQuestion

REMEDY = "Evaluate the run again."
_ORDINALS = ("Kind", "Second kind", "Third kind")


@dataclass(frozen=True)
class BrowsedRun:
    """One seed's predictions of a group.

    Attributes:
        name: label of the run.
        seed: where the run has several.
        rows: predictions in the order of the data.
        result: the seed.
    """

    name: str
    seed: int | None
    rows: Sequence[Mapping[str, Any]]
    result: SeedResult

    @property
    def label(self) -> str:
        """Name of the run, with its seed where it has several."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"


@dataclass(frozen=True)
class ShownFilter:
    """A filter by category, in a study's words.

    Attributes:
        name: in the form and the address.
        label: over it.
        options: values with their words.
        is_own: the words are the study's own.
    """

    name: str
    label: str
    options: tuple[tuple[str, str], ...]
    is_own: bool


@dataclass
class Group:
    """Runs of one task on one split of one data set.

    Attributes:
        task: facts of its runs' task.
        data_dir: of the data set that they are evaluated on, in its layout.
        split: of it.
        runs: with or without scores.
        column_notes: the study's own words for categories.
        notes: what keeps runs out, gathered while their answers are read.
    """

    task: TaskFacts
    data_dir: Path
    split: str
    runs: list[RunResult]
    column_notes: Mapping[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.data_dir.parent.name or self.data_dir.name

    @property
    def key(self) -> str:
        """Anchor in the page, and name of the items' file."""
        name = f"{self.task.evaluated_as}-{self.dataset}-{self.split}"
        return re.sub(r"[^a-z0-9]+", "-", name.lower())

    def words_of(self, category: str) -> str:
        """Say what a category is in the study's data."""
        return self._own_words(category) or self.task.categories[category]

    def _own_words(self, category: str) -> str:
        keys = {column.header: column.key for column in self.task.columns}
        return self.column_notes.get(keys.get(category, ""), "")

    def about(self, item: "ShownQuestion") -> str:
        """Say what kind of question one is: by the study's words, else by those of the data set."""
        if not self.column_notes:
            return item.about
        kinds = [name for one in self.task.filters if one.tells_kind for name in one.members]
        return ", ".join(self.words_of(name) for name in kinds if name in item.kinds)

    def filters(self, present: Container[str]) -> tuple[ShownFilter, ...]:
        """Return the filters by categories that at least two values of are present."""
        found: list[ShownFilter] = []
        for one in self.task.filters:
            options = tuple((name, self.words_of(name)) for name in one.members if name in present)
            if len(options) > 1:
                is_own = any(self._own_words(name) for name in one.members)
                own = _ORDINALS[sum(each.is_own for each in found)]
                label = own if is_own else one.label
                found.append(ShownFilter(one.name, label, options, is_own))
        return tuple(found)

    def answered(self, item_ids: Sequence[str]) -> list[BrowsedRun]:
        """Read the predictions of all finished seeds; those of other items are noted."""
        return [
            browsed
            for run in self.runs
            for seed in run.finished
            if (browsed := self._read(run, seed, item_ids)) is not None
        ]

    def _read(self, run: RunResult, seed: SeedResult, item_ids: Sequence[str]) -> BrowsedRun | None:
        number = seed.settings.seed if len(run.seeds) > 1 else None
        browsed = BrowsedRun(printable(run.label), number, (), seed)
        path = RunFiles(seed.run_dir).predictions(self.task.evaluated_as)
        if not path.is_file():
            self.notes.append(f"{browsed.label}: its predictions are not here ({path}).")
            return None
        rows = read_json_lines(path, remedy=REMEDY)
        if not all(isinstance(row, dict) and isinstance(row.get("text"), str) for row in rows):
            raise DataError(f"{path}: expected an object with a text in each line. {REMEDY}")
        if [str(row.get("id")) for row in rows] != list(item_ids):
            self.notes.append(
                f"{browsed.label}: its predictions are of other items than the data holds."
            )
            return None
        return replace(browsed, rows=rows)


def groups_of(results: StudyResults) -> list[Group]:
    """Return the groups of a study's runs, in the order of the study file."""
    groups: dict[tuple[str, str, str], Group] = {}
    notes = results.study.column_notes
    for run in results.runs:
        settings = run.settings
        facts, split = facts_of(settings.task), settings.evaluation.split
        key = (facts.name, settings.evaluated_dir, "" if facts.benchmark else split)
        group = Group(facts, Path(settings.evaluated_dir), split, [], notes)
        groups.setdefault(key, group).runs.append(run)
    return list(groups.values())
