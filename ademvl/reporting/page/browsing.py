"""What the page lets readers browse: every question and caption with what each run made of it.

The items of a group of runs go to a file beside the page; what keeps runs out of it is told.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ademvl.errors import DataError
from ademvl.evaluation.scienceqa import COLUMNS
from ademvl.reporting.page.browsed_groups import (
    CATEGORIES,
    REMEDY,
    BrowsedRun,
    CategoryFilter,
    Group,
    groups_of,
)
from ademvl.reporting.page.scripts import visible_text, write_data_script
from ademvl.reporting.page.thumbnails import Thumbnails
from ademvl.reporting.results import StudyResults


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
            "runs": [{"name": run.name, "seed": run.seed, "label": run.label} for run in runs],
            "categories": list(CATEGORIES),
            "items": items,
        }
        write_data_script(page_dir / script, group.key, content)
        names = tuple(CATEGORIES)
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


def _items(
    group: Group, thumbnails: Thumbnails
) -> tuple[list[dict[str, Any]], Sequence[BrowsedRun]]:
    if group.task == "coco_caption":
        return _captions(group, thumbnails)
    return _questions(group, thumbnails)


def _questions(
    group: Group, thumbnails: Thumbnails
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
        kinds = [name for name in CATEGORIES if COLUMNS[name](problem)]
        items.append(
            {
                "id": visible_text(problem.question_id),
                "question": visible_text(problem.question),
                "choices": [visible_text(choice) for choice in problem.choices],
                "answer": problem.answer_index,
                "about": visible_text(group.about(problem, kinds)),
                "skill": visible_text(problem.skill),
                "categories": [i for i, name in enumerate(CATEGORIES) if name in kinds],
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
        raise DataError(f"question {row.get('id')}: predicted_index is {index!r}. {REMEDY}")
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
    group: Group, thumbnails: Thumbnails
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
