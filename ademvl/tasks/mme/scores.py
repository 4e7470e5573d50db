"""Scores MME answers as the benchmark's own tool does: accuracy, accuracy+ and their sums.

An answer counts as yes or no by its first four characters, blanks included; yes is looked for
first. Accuracy is over questions, accuracy+ over images with both questions right, a task's score
their sum in percent, 200 at most; perception and cognition sum over their tasks.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ademvl.errors import DataError, list_findings
from ademvl.randomness import derive_seed
from ademvl.statistics.intervals import (
    BOOTSTRAP,
    NUM_RESAMPLES,
    UNVARIED,
    Floats,
    Interval,
    percentiles,
    resampled_interval,
    wilson_interval,
)
from ademvl.tasks.mme.files import read_mme_answers
from ademvl.tasks.mme.reader import (
    COGNITION,
    PERCEPTION,
    TASK_POINTS,
    TASKS,
    MmeAnswer,
    load_answers,
)
from ademvl.tasks.score_table import describe_file
from ademvl.text_table import aligned

GROUPS: Mapping[str, Mapping[str, int]] = {"perception": PERCEPTION, "cognition": COGNITION}
INTERVAL = f"percentile bootstrap over images within tasks, {NUM_RESAMPLES:,} resamples"

JOINED = f"intervals of the tasks joined (MOVER): {BOOTSTRAP}, or {UNVARIED}"

_PREFIX_LENGTH = 4


def parse_answer(text: str) -> Literal["yes", "no", "other"]:
    """Read yes or no off generated text by the rule of the benchmark's own tool."""
    beginning = text.lower()[:_PREFIX_LENGTH]
    if "yes" in beginning:
        return "yes"
    return "no" if "no" in beginning else "other"


def score_mme(
    path: Path, *, benchmark: Path | None = None, allow_incomplete: bool = False
) -> dict[str, Any]:
    """Score answers in files; the result is ready for JSON, scores in points.

    Args:
        path: folder that holds `<task>.txt` for each task, or a file of all, see `mme_files`.
        benchmark: its folder; needed for a file without right answers.
        allow_incomplete: score whatever tasks and questions there are; sums that lack anything
            are null, because they would not compare with published ones.

    Raises:
        DataError: lists tasks that are missing, or have another number of questions than the
            benchmark; or a file is malformed.
        SettingsError, ToolError: see `read_mme_answers`.
    """
    files = {task: path / f"{task}.txt" for task in TASKS}
    files = {task: file for task, file in files.items() if file.is_file()}
    if path.is_file():
        answers = read_mme_answers(path, benchmark)
        files = dict.fromkeys(answers, path)
    else:
        answers = {task: load_answers(file) for task, file in files.items()}
    scores = score_answers(answers)
    if scores["incomplete"] and not (allow_incomplete and answers):
        remedy = "Answer all questions, or score those that are there (--allow-incomplete)."
        raise DataError(list_findings(f"{path}: incomplete", scores["incomplete"], remedy))
    for task, file in files.items():
        scores["tasks"][task]["file"] = describe_file(file)
    return scores


def score_answers(answers: Mapping[str, Sequence[MmeAnswer]]) -> dict[str, Any]:
    """Score answers by task; the result is ready for JSON, scores in points.

    Sums of groups that lack a task or questions are null, and `incomplete` says what is missing.

    Args:
        answers: two for each image, one after the other.
    """
    findings = {task: f"{task}.txt: missing" for task in TASKS if task not in answers} | {
        task: f"{task}.txt: {len(rows)} questions, expected {TASKS[task]}"
        for task, rows in answers.items()
        if len(rows) != TASKS[task]
    }
    tasks: dict[str, Any] = {}
    resampled: dict[str, Floats] = {}
    for task, rows in answers.items():
        tasks[task], resampled[task] = _score_task(rows, seed=derive_seed(0, "mme", task))
    return {
        "task": "mme",
        "n": sum(map(len, answers.values())),
        "is_complete": not findings,
        "incomplete": list(findings.values()),
        "num_without_answer": sum(row["num_without_answer"] for row in tasks.values()),
        "interval": INTERVAL,
        "tasks": tasks,
        "sums": {
            group: None if findings.keys() & members.keys() else _sum(members, tasks, resampled)
            for group, members in GROUPS.items()
        },
    }


def mme_table(scores: Mapping[str, Any]) -> str:
    """Render tasks in their published order, each group followed by its sum."""
    rows = []
    for group, members in GROUPS.items():
        for task in members:
            row = scores["tasks"].get(task)
            if row:
                accuracy, plus = row["accuracy"]["percent"], row["accuracy_plus"]["percent"]
                cells = [str(row["n"]), f"{accuracy:.2f}", f"{plus:.2f}"]
                rows.append([task, *cells, f"{row['score']:.2f}", _interval(row)])
            else:
                rows.append([task, "-", "-", "-", "-", "-"])
        total = scores["sums"][group]
        cells = [f"{total['score']:.2f}", _interval(total)] if total else ["-", "incomplete"]
        count = sum(scores["tasks"][task]["n"] for task in members if task in scores["tasks"])
        rows.append([group.upper(), str(count), "", "", *cells])
    table = "\n".join(aligned([["task", "n", "accuracy", "accuracy+", "score", "95 %"], *rows]))
    if scores["num_without_answer"]:
        table += f"\n{scores['num_without_answer']} answers say neither yes nor no: wrong"
    return table


def _score_task(answers: Sequence[MmeAnswer], *, seed: int) -> tuple[dict[str, Any], Floats]:
    """Return a task's scores, and its score in each resample, (NUM_RESAMPLES,)."""
    said = [parse_answer(row.answer) for row in answers]
    correct = [
        answer == row.gold.strip().lower() for answer, row in zip(said, answers, strict=True)
    ]
    right_per_image = [sum(correct[start : start + 2]) for start in range(0, len(correct), 2)]
    images = np.bincount(right_per_image, minlength=3)  # with none, one and both right
    num_images = len(right_per_image)
    resamples = np.random.default_rng(seed).multinomial(
        num_images, images / num_images, size=NUM_RESAMPLES
    )
    resampled = _points(resamples)
    scores = {
        "n": len(answers),
        "accuracy": wilson_interval(sum(correct), len(correct)).as_percent(),
        "accuracy_plus": wilson_interval(int(images[2]), num_images).as_percent(),
        "num_without_answer": said.count("other"),
        **_with_interval(
            float(_points(images[None])[0]),
            resampled_interval(resampled, n=num_images, limits=(0.0, TASK_POINTS)),
        ),
    }
    return scores, resampled


def _points(images: "np.ndarray[Any, np.dtype[Any]]") -> Floats:
    """Return scores, (rows,), from numbers of images with none, one and both right, (rows, 3)."""
    num_images = images.sum(axis=1)
    points: Floats = 100 * (0.5 * images[:, 1] + 2.0 * images[:, 2]) / num_images
    return points


def _sum(
    members: Mapping[str, int], tasks: Mapping[str, Any], resampled: Mapping[str, Floats]
) -> dict[str, Any]:
    """Add tasks up; where one has no spread, by their intervals instead of by resamples (MOVER)."""
    parts = [tasks[task] for task in members]
    total = sum(part["score"] for part in parts)
    if all(np.ptp(resampled[task]) > 0 for task in members):
        low, high = percentiles(np.sum([resampled[task] for task in members], axis=0))
        interval = Interval(low=low, high=high, method=INTERVAL)
    else:
        below = math.hypot(*(part["score"] - part["ci_low"] for part in parts))
        above = math.hypot(*(part["ci_high"] - part["score"] for part in parts))
        interval = Interval(low=total - below, high=total + above, method=JOINED)
    scored = _with_interval(total, interval)
    return {"n": sum(part["n"] for part in parts), "method": interval.method, **scored}


def _with_interval(score: float, interval: Interval) -> dict[str, float]:
    return {"score": score, "ci_low": interval.low, "ci_high": interval.high}


def _interval(row: Mapping[str, float]) -> str:
    return f"{row['ci_low']:.1f}-{row['ci_high']:.1f}"
