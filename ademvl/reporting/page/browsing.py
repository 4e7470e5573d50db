"""What the page lets readers browse: every question and caption with what each run made of it.

The items of a group of runs go to a file beside the page; what keeps runs out of it is told.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ademvl.config.task_facts import TaskFacts
from ademvl.errors import DataError
from ademvl.reporting.page.browsed_groups import (
    REMEDY,
    BrowsedRun,
    Group,
    ShownFilter,
    groups_of,
)
from ademvl.reporting.page.scripts import visible_text, write_data_script
from ademvl.reporting.page.thumbnails import Thumbnails
from ademvl.reporting.results import StudyResults
from ademvl.tasks.base import Questions, ShownImage, ShownQuestion
from ademvl.tasks.registry import task_named


@dataclass(frozen=True, kw_only=True)
class Browser:
    """One group as the page's template takes it.

    Attributes:
        key: anchor, and name of its data.
        facts: of its runs' task.
        title: data set and split.
        script: path of the data, relative to the page; empty where there is nothing to browse.
        num_items: questions or images.
        runs: labels, in the order of the items' answers.
        filters: by categories that occur, in the study's own words.
        notes: what keeps runs or images out.
    """

    key: str
    facts: TaskFacts
    title: str
    script: str = ""
    num_items: int = 0
    runs: tuple[str, ...] = ()
    filters: tuple[ShownFilter, ...] = ()
    notes: tuple[str, ...] = ()


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
    for group in groups_of(results):
        title = group.dataset + ("" if group.task.benchmark else f", split {group.split}")
        browser = Browser(key=group.key, facts=group.task, title=title)
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
            "runs": [{"name": run.name, "seed": run.seed, "label": run.label} for run in runs],
            "categories": list(group.task.categories),
            "filters": [each.name for each in group.task.filters],
            "items": items,
        }
        write_data_script(page_dir / script, group.key, content)
        names = tuple(group.task.categories)
        present = {names[i] for item in items for i in item.get("categories", ())}
        found.append(
            replace(
                browser,
                script=script,
                num_items=len(items),
                runs=tuple(run.label for run in runs),
                filters=group.filters(present),
                notes=tuple(group.notes),
            )
        )
    return found


class _DataNotHereError(Exception):
    """The data set is missing or cannot be read on this machine; results may have been moved."""


def _items(
    group: Group, thumbnails: Thumbnails
) -> tuple[list[dict[str, Any]], Sequence[BrowsedRun]]:
    task = task_named(group.task.name)
    try:
        questions = task.questions(group.data_dir, group.split, look_at_images=False)
    except DataError as error:
        raise _DataNotHereError(str(error).splitlines()[0]) from error
    if questions.findings:
        raise _DataNotHereError(questions.findings[0])
    runs = group.answered(questions.item_ids)
    if not runs:
        return [], runs
    prompts = _Prompts(questions, runs)
    items = []
    for place, item in enumerate(questions.shown()):
        small = item.image and thumbnails.add(item.image, group=group.key, name=item.item_id)
        rows = [run.rows[place] for run in runs]
        common = {
            "id": visible_text(item.item_id),
            "image": small.to_json() if small else None,
            "hasImage": item.image is not None,
            "texts": [visible_text(row["text"]) for row in rows],
        }
        if isinstance(item, ShownImage):
            items.append(common | _of_image(item, rows))
        else:
            chosen = [_index(questions.chosen(row), row) for row in rows]
            found = {"chosen": chosen, "prompts": prompts.of(place)}
            items.append(common | _of_question(item, group) | found)
    return items, runs


def _of_question(item: ShownQuestion, group: Group) -> dict[str, Any]:
    names = group.task.categories
    return {
        "question": visible_text(item.question),
        "choices": [visible_text(choice) for choice in item.choices],
        "answer": item.answer_index,
        "about": visible_text(group.about(item)),
        "skill": visible_text(item.skill),
        "categories": [i for i, name in enumerate(names) if name in item.kinds],
    }


def _of_image(item: ShownImage, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    captions = [str(row.get("caption", "")) for row in rows]
    known = {word for text in item.references for word in _words(text)}
    return {
        "references": [visible_text(text) for text in item.references],
        "captions": [visible_text(caption) for caption in captions],
        "lengths": [len(_words(caption)) for caption in captions],
        "known": [_known_share(caption, known) for caption in captions],
    }


def _index(index: object, row: Mapping[str, Any]) -> int:
    if not isinstance(index, int):
        raise DataError(f"question {row.get('id')}: predicted_index is {index!r}. {REMEDY}")
    return index


class _Prompts:
    """Prompts of all runs by item; runs with the same prompt settings share theirs."""

    def __init__(self, questions: Questions, runs: Sequence[BrowsedRun]) -> None:
        self._texts: list[list[str] | None] = []
        known: dict[Any, list[str] | None] = {}
        for run in runs:
            settings = run.result.settings
            key = (settings.prompts, settings.images)
            if key not in known:
                try:
                    examples = questions.examples(settings)
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


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _known_share(caption: str, known: set[str]) -> float:
    """Return which share of a caption's words stands in its references, for ordering."""
    words = _words(caption)
    return round(sum(word in known for word in words) / len(words), 3) if words else 0.0
