"""Runs whose answers can be compared item by item, and the categories of their questions.

A group is one task on one split of one data set. What keeps a run out of it is told.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.errors import DataError
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import SeedResult
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.layout import printable
from ademvl.storage.files import read_json_lines

if TYPE_CHECKING:
    from ademvl.data.scienceqa import Problem

_BROWSED_TASKS = ("scienceqa", "coco_caption")
REMEDY = "Evaluate the run again."
CATEGORIES = {
    "NAT": "natural science",
    "SOC": "social science",
    "LAN": "language science",
    "TXT": "with text",
    "IMG": "with an image",
    "NO": "neither text nor image",
    "G1-6": "grades 1 to 6",
    "G7-12": "grades 7 to 12",
}
_FILTERS = (
    ("subject", "Subject", ("NAT", "SOC", "LAN")),
    ("grade", "Grade", ("G1-6", "G7-12")),
    ("context", "Context", ("TXT", "IMG", "NO")),
)
_ORDINALS = ("Kind", "Second kind", "Third kind")
_KEYS = {column.header: column.key for column in SCIENCEQA_COLUMNS}


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
class CategoryFilter:
    """A filter by category.

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
        task: of its runs.
        data_dir: of the data set, in its layout.
        split: of it.
        runs: with or without scores.
        column_notes: the study's own words for categories.
        notes: what keeps runs out, gathered while their answers are read.
    """

    task: str
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
        name = f"{self.task}-{self.dataset}-{self.split}"
        return re.sub(r"[^a-z0-9]+", "-", name.lower())

    def words_of(self, category: str) -> str:
        """Say what a category is in the study's data."""
        return self.column_notes.get(_KEYS[category], CATEGORIES[category])

    def about(self, problem: "Problem", categories: Sequence[str]) -> str:
        """Say what kind of question one is: by the study's words, else by subject and grade."""
        if not self.column_notes:
            return f"{problem.subject}, {problem.grade.replace('grade', 'grade ')}"
        kinds = [name for _, label, names in _FILTERS if label != "Context" for name in names]
        return ", ".join(self.words_of(name) for name in kinds if name in categories)

    def filters(self, present: Container[str]) -> tuple[CategoryFilter, ...]:
        """Return the filters by categories that at least two values of are present."""
        found: list[CategoryFilter] = []
        for name, label, members in _FILTERS:
            options = tuple((one, self.words_of(one)) for one in members if one in present)
            if len(options) > 1:
                is_own = any(_KEYS[one] in self.column_notes for one in members)
                own = _ORDINALS[sum(each.is_own for each in found)]
                found.append(CategoryFilter(name, own if is_own else label, options, is_own))
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
        path = seed.run_dir / "predictions" / f"{self.task}.jsonl"
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
        if settings.task in _BROWSED_TASKS:
            key = (settings.task, settings.data_dir, settings.evaluation.split)
            group = Group(
                settings.task, Path(settings.data_dir), settings.evaluation.split, [], notes
            )
            groups.setdefault(key, group).runs.append(run)
    return list(groups.values())
