"""What the page lets readers browse: every question and caption with what each run made of it.

A group is what can be compared item by item: one task on one split of one data set. Its items go
to a file beside the page; what keeps runs out of it is told.
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.errors import DataError
from ademvl.evaluation.scienceqa import COLUMNS
from ademvl.reporting.page.scripts import visible_text, write_data_script
from ademvl.reporting.page.thumbnails import Thumbnails
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import SeedResult
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.layout import printable
from ademvl.storage.files import read_json_lines

if TYPE_CHECKING:
    from ademvl.data.scienceqa import Problem

BROWSED_TASKS = ("scienceqa", "coco_caption")
_REMEDY = "Evaluate the run again."
_CATEGORIES = {
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
_KEYS = {column.header: column.key for column in SCIENCEQA_COLUMNS}


@dataclass(frozen=True)
class BrowsedRun:
    """One seed's predictions of a group.

    Attributes:
        label: of the run; with its seed where the run has several.
        sees_images: whether images were shown to it.
        rows: predictions in the order of the data.
        result: the seed.
    """

    label: str
    sees_images: bool
    rows: Sequence[Mapping[str, Any]]
    result: SeedResult


@dataclass(frozen=True)
class CategoryFilter:
    """A filter by category: name in the form and the address, label, values with their words."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Browser:
    """One group as the page's template takes it.

    Attributes:
        key: anchor, and name of its data.
        task: of its runs.
        title: data set and split.
        script: path of the data, relative to the page; empty where there is nothing to browse.
        num_items: questions or images.
        runs: labels, in the order of the items' answers.
        filters: by categories that occur, in the study's own words.
        notes: what keeps runs or images out.
    """

    key: str
    task: str
    title: str
    script: str = ""
    num_items: int = 0
    runs: tuple[str, ...] = ()
    filters: tuple[CategoryFilter, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Group:
    task: str
    data_dir: Path
    split: str
    runs: list[RunResult]
    column_notes: Mapping[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def dataset(self) -> str:
        return self.data_dir.parent.name or self.data_dir.name

    @property
    def key(self) -> str:
        name = f"{self.task}-{self.dataset}-{self.split}"
        return re.sub(r"[^a-z0-9]+", "-", name.lower())

    def words_of(self, category: str) -> str:
        """Say what a category is in the study's data."""
        return self.column_notes.get(_KEYS[category], _CATEGORIES[category])

    def about(self, problem: "Problem", categories: Sequence[str]) -> str:
        """Say what kind of question one is: by the study's words, else by subject and grade."""
        if not self.column_notes:
            return f"{problem.subject}, {problem.grade.replace('grade', 'grade ')}"
        kinds = [name for _, label, names in _FILTERS if label != "Context" for name in names]
        return ", ".join(self.words_of(name) for name in kinds if name in categories)

    def filters(self, present: Container[str]) -> tuple[CategoryFilter, ...]:
        """Return the filters by categories that at least two values of are present."""
        found = []
        for name, label, members in _FILTERS:
            options = tuple((one, self.words_of(one)) for one in members if one in present)
            if len(options) > 1:
                is_own = any(_KEYS[one] in self.column_notes for one in members)
                found.append(CategoryFilter(name, "Kind" if is_own else label, options))
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
        number = f", seed {seed.settings.seed}" if len(run.seeds) > 1 else ""
        label = printable(run.label) + number
        path = seed.run_dir / "predictions" / f"{self.task}.jsonl"
        if not path.is_file():
            self.notes.append(f"{label}: its predictions are not here ({path}).")
            return None
        rows = read_json_lines(path, remedy=_REMEDY)
        if not all(isinstance(row, dict) and isinstance(row.get("text"), str) for row in rows):
            raise DataError(f"{path}: expected an object with a text in each line. {_REMEDY}")
        if [str(row.get("id")) for row in rows] != list(item_ids):
            self.notes.append(f"{label}: its predictions are of other items than the data holds.")
            return None
        return BrowsedRun(label, seed.settings.images == "shown", rows, seed)


def write_browsers(results: StudyResults, page_dir: Path, thumbnails: Thumbnails) -> list[Browser]:
    """Write the data of all groups beside the page, and return what the template needs of them.

    Args:
        results: of the study; runs without scores take no part.
        page_dir: gets `data/<key>.js`.
        thumbnails: get the items' images.

    Raises:
        DataError: a prediction file is malformed.
    """
    found = []
    for group in _groups(results):
        title = f"{group.dataset}, split {group.split}"
        browser = Browser(key=group.key, task=group.task, title=title)
        try:
            items, runs = _items(group, thumbnails)
        except _DataNotHereError as error:
            note = f"The data set cannot be read here, so there is nothing to browse: {error}"
            found.append(replace(browser, notes=(note,)))
            continue
        if not runs:
            group.notes.append("No run has been evaluated yet.")
            found.append(replace(browser, notes=tuple(group.notes)))
            continue
        script = f"data/{group.key}.js"
        content = {
            "runs": [{"label": run.label, "seesImages": run.sees_images} for run in runs],
            "categories": list(_CATEGORIES),
            "items": items,
        }
        write_data_script(page_dir / script, group.key, content)
        names = tuple(_CATEGORIES)
        present = {names[i] for item in items for i in item.get("categories", ())}
        found.append(
            replace(
                browser,
                script=script,
                num_items=len(items),
                runs=tuple(run.label for run in runs),
                filters=group.filters(present) if group.task == "scienceqa" else (),
                notes=tuple(group.notes),
            )
        )
    return found


class _DataNotHereError(Exception):
    """The data set is missing or cannot be read on this machine; results may have been moved."""


def _groups(results: StudyResults) -> list[_Group]:
    groups: dict[tuple[str, str, str], _Group] = {}
    notes = results.study.column_notes
    for run in results.runs:
        settings = run.settings
        if settings.task in BROWSED_TASKS:
            key = (settings.task, settings.data_dir, settings.evaluation.split)
            group = _Group(
                settings.task, Path(settings.data_dir), settings.evaluation.split, [], notes
            )
            groups.setdefault(key, group).runs.append(run)
    return list(groups.values())


def _items(
    group: _Group, thumbnails: Thumbnails
) -> tuple[list[dict[str, Any]], Sequence[BrowsedRun]]:
    if group.task == "coco_caption":
        return _captions(group, thumbnails)
    return _questions(group, thumbnails)


def _questions(
    group: _Group, thumbnails: Thumbnails
) -> tuple[list[dict[str, Any]], Sequence[BrowsedRun]]:
    from ademvl.data.scienceqa import load_scienceqa

    try:
        dataset = load_scienceqa(group.data_dir)
        problems = dataset.split(group.split)
    except DataError as error:
        raise _DataNotHereError(str(error).splitlines()[0]) from error
    runs = group.answered([problem.question_id for problem in problems])
    if not runs:
        return [], runs
    prompts = _Prompts(dataset, group.split, runs)
    items = []
    for place, problem in enumerate(problems):
        image = dataset.image_path(problem)
        name = problem.question_id
        small = image and thumbnails.add(image, group=group.key, name=name)
        rows = [run.rows[place] for run in runs]
        kinds = [name for name in _CATEGORIES if COLUMNS[name](problem)]
        items.append(
            {
                "id": visible_text(problem.question_id),
                "question": visible_text(problem.question),
                "choices": [visible_text(choice) for choice in problem.choices],
                "answer": problem.answer_index,
                "about": visible_text(group.about(problem, kinds)),
                "skill": visible_text(problem.skill),
                "categories": [i for i, name in enumerate(_CATEGORIES) if name in kinds],
                "image": small.to_json() if small else None,
                "hasImage": problem.has_image,
                "prompts": prompts.of(place),
                "chosen": [_index(row) for row in rows],
                "texts": [visible_text(row["text"]) for row in rows],
            }
        )
    return items, runs


def _index(row: Mapping[str, Any]) -> int:
    index = row.get("predicted_index")
    if not isinstance(index, int):
        raise DataError(f"question {row.get('id')}: predicted_index is {index!r}. {_REMEDY}")
    return index


class _Prompts:
    """Prompts of all runs by item; runs with the same prompt settings share theirs."""

    def __init__(self, dataset: Any, split: str, runs: Sequence[BrowsedRun]) -> None:
        from ademvl.data.examples import scienceqa_evaluation_examples

        self._texts: list[list[str] | None] = []
        known: dict[Any, list[str] | None] = {}
        for run in runs:
            settings = run.result.settings
            key = (settings.prompts, settings.images)
            if key not in known:
                try:
                    examples = scienceqa_evaluation_examples(
                        dataset, split, settings.prompts, settings.images
                    )
                    known[key] = [visible_text(example.prompt) for example in examples]
                except DataError:  # captions that it saw are not here any more
                    known[key] = None
            self._texts.append(known[key])

    def of(self, place: int) -> list[list[Any]]:
        """Return the distinct prompts of an item, each as [text, places of the runs]."""
        by_text: dict[str, list[int]] = {}
        for run, texts in enumerate(self._texts):
            if texts is not None:
                by_text.setdefault(texts[place], []).append(run)
        return [[text, runs] for text, runs in by_text.items()]


def _captions(
    group: _Group, thumbnails: Thumbnails
) -> tuple[list[dict[str, Any]], Sequence[BrowsedRun]]:
    from ademvl.data.captions import parse_evaluation_rows

    try:
        images, findings = parse_evaluation_rows(group.data_dir, group.split)
    except DataError as error:
        raise _DataNotHereError(str(error).splitlines()[0]) from error
    if findings:
        raise _DataNotHereError(findings[0])
    runs = group.answered([str(image.image_id) for image in images])
    if not runs:
        return [], runs
    items = []
    for place, image in enumerate(images):
        small = thumbnails.add(image.image, group=group.key, name=str(image.image_id))
        rows = [run.rows[place] for run in runs]
        captions = [str(row.get("caption", "")) for row in rows]
        known = {word for text in image.references for word in _words(text)}
        items.append(
            {
                "id": str(image.image_id),
                "references": [visible_text(text) for text in image.references],
                "image": small.to_json() if small else None,
                "hasImage": True,
                "captions": [visible_text(caption) for caption in captions],
                "lengths": [len(_words(caption)) for caption in captions],
                "known": [_known_share(caption, known) for caption in captions],
                "texts": [visible_text(row["text"]) for row in rows],
            }
        )
    return items, runs


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _known_share(caption: str, known: set[str]) -> float:
    """Return which share of a caption's words stands in its references, for ordering."""
    words = _words(caption)
    return round(sum(word in known for word in words) / len(words), 3) if words else 0.0
