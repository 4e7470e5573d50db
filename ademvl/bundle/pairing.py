"""Two trainings of the same run, item by item: how many predictions agree, and a paired test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ademvl.bundle.records import SeedRecord
from ademvl.errors import ToolError
from ademvl.evaluation.mme import parse_answer
from ademvl.randomness import derive_seed
from ademvl.statistics.intervals import Floats
from ademvl.statistics.paired import Difference, McNemar, mcnemar, paired_differences
from ademvl.statistics.paired_proportions import accuracy_difference

_CAPTION_SCORE = "CIDEr"


@dataclass(frozen=True, kw_only=True)
class Paired:
    """A paired comparison of a main score.

    Attributes:
        score: its name.
        difference: first minus second.
        tests: McNemar's of each pair of seeds, where there are as many on both sides; none for
            captions.
    """

    score: str
    difference: Difference
    tests: tuple[McNemar, ...]


def count_identical(
    first: Sequence[SeedRecord], second: Sequence[SeedRecord]
) -> tuple[int, int | None]:
    """Count the items that both were asked, and those predicted the same by all common seeds.

    The second number is None where a side has no predictions, or no seed is common.
    """
    ours, theirs = ({s.seed: s for s in side} for side in (first, second))
    pairs = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    items = _common_items([*first, *second])
    if not items or not pairs:
        return len(items), None
    same = sum(all(a.predictions[i] == b.predictions[i] for a, b in pairs) for i in items)
    return len(items), same


def compare_items(
    first: Sequence[SeedRecord], second: Sequence[SeedRecord], *, seed: int
) -> tuple[Paired | None, str]:
    """Compare the main score of a run on the items that both sides were asked.

    Returns:
        The comparison; or None and the reason why there is none.
    """
    items = _common_items([*first, *second])
    if not all(record.predictions for record in (*first, *second)):
        return None, "a side holds no predictions, and scores alone say nothing item by item"
    if not items:
        return None, "they were not asked a single common item"
    answers, conflicts = _common_answers(first[0].answers, second[0].answers, items)
    if conflicts:
        return None, f"the right answers to {conflicts} of {len(items)} common items differ"
    if len(answers) < len(items):
        return None, "neither side holds the right answers to all common items"
    if first[0].task != "coco_caption":
        return _compare_correct(first, second, answers), ""
    try:
        return _compare_captions(first, second, answers, seed=derive_seed(seed, "compare")), ""
    except ToolError as error:
        return None, f"captions differ, and cannot be scored here: {error}"


def _common_items(records: Sequence[SeedRecord]) -> list[str]:
    """Return the items that all were asked, in the order of the first."""
    return [i for i in records[0].predictions if all(i in r.predictions for r in records)]


def _common_answers(
    first: Mapping[str, Any], second: Mapping[str, Any], items: Sequence[str]
) -> tuple[dict[str, Any], int]:
    """Return the right answers to the items from either side, and how many of them disagree."""
    conflicts = sum(i in first and i in second and first[i] != second[i] for i in items)
    answers = {i: first.get(i, second.get(i)) for i in items if i in first or i in second}
    return answers, conflicts


def _compare_correct(
    first: Sequence[SeedRecord],
    second: Sequence[SeedRecord],
    answers: Mapping[str, Any],
) -> Paired:
    right = _is_right_mme if first[0].task == "mme" else _is_right_choice
    correct = [
        [np.array([right(s.predictions[i], answers[i]) for i in answers]) for s in side]
        for side in (first, second)
    ]
    difference = accuracy_difference(np.array(correct[0]), np.array(correct[1]))
    pairs = zip(*correct, strict=True) if len(first) == len(second) else ()
    tests = tuple(mcnemar(ours.tolist(), theirs.tolist()) for ours, theirs in pairs)
    return Paired(score="accuracy", difference=difference, tests=tests)


def _is_right_choice(row: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    return bool(row.get("predicted_index") == answer["answer_index"])


def _is_right_mme(row: Mapping[str, Any], answer: str) -> bool:
    return parse_answer(str(row.get("text", ""))) == answer


def _compare_captions(
    first: Sequence[SeedRecord],
    second: Sequence[SeedRecord],
    answers: Mapping[str, Any],
    *,
    seed: int,
) -> Paired:
    from ademvl.evaluation.captions.scores import (
        LIMITS,
        METRICS,
        caption_item_sums,
        corpus_scores,
    )

    references = {int(image_id): tuple(texts) for image_id, texts in answers.items()}

    def sums(side: Sequence[SeedRecord]) -> list[Floats]:
        captions = [
            {int(i): str(s.predictions[i].get("caption", "")) for i in answers} for s in side
        ]
        return caption_item_sums(references, captions)

    statistic: Callable[[Floats], Floats] = partial(corpus_scores, n=len(references))
    found = paired_differences(sums(first), sums(second), statistic, seed=seed, limits=LIMITS)
    return Paired(
        score=_CAPTION_SCORE, difference=found[list(METRICS).index(_CAPTION_SCORE)], tests=()
    )
