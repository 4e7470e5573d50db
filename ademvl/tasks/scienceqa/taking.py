"""Cuts a laid-out ScienceQA down to some questions of each split, chosen by a fixed seed."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ademvl.data.links import write_json_in_tree
from ademvl.errors import DataError
from ademvl.randomness import derive_seed
from ademvl.tasks.scienceqa.reader import CAPTIONS_FILE, PROBLEMS_FILE, SPLITS_FILE, read_object


def take_questions(root: Path, take: Mapping[str, int]) -> dict[str, int]:
    """Keep so many questions of each split, in their order; other splits stay whole.

    The files that the tree links to are never changed: what is cut is written in the link's place.

    Args:
        root: folder of the task.
        take: number of questions by split; 0 or more than there are takes none or all.

    Returns:
        Questions of each split that was cut, before.

    Raises:
        DataError: there is no such split, or the files are malformed.
    """
    problems, splits = read_object(root / PROBLEMS_FILE), read_object(root / SPLITS_FILE)
    unknown = [name for name in take if not isinstance(splits.get(name), list)]
    if unknown:
        raise DataError(
            f"{root / SPLITS_FILE}: has no split {unknown[0]!r}, which the key `take` of the data "
            f"set names; it has {', '.join(splits)}"
        )
    kept: dict[str, list[Any]] = {}
    for name, number in take.items():
        places = range(len(splits[name]))
        generator = random.Random(derive_seed("take", name))
        chosen = sorted(generator.sample(places, min(number, len(places))))
        kept[name] = [splits[name][place] for place in chosen]
    left_out = {
        question_id
        for name, question_ids in kept.items()
        for question_id in {*splits[name]} - {*question_ids}
    }
    # Splits such as trainval or minitrain list the same questions again.
    cut = {name: [item for item in ids if item not in left_out] for name, ids in splits.items()}
    write_json_in_tree(root / PROBLEMS_FILE, _without(problems, left_out))
    write_json_in_tree(root / SPLITS_FILE, cut)
    if (root / CAPTIONS_FILE).is_file():
        captions = read_object(root / CAPTIONS_FILE)
        if isinstance(captions.get("captions"), dict):
            captions["captions"] = _without(captions["captions"], left_out)
            write_json_in_tree(root / CAPTIONS_FILE, captions)
    return {name: len(splits[name]) for name in take}


def _without(entries: Mapping[str, Any], left_out: set[Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key not in left_out}
