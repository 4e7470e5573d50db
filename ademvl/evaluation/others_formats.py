"""Writes a run's predictions in the formats of other programs.

ScienceQA and MME become samples of lmms-eval (`--log_samples`), one a line; captions the list that
the COCO evaluation server takes. `ademvl score` reads both again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase

from ademvl.config.run import RunSettings, Task
from ademvl.config.settings_files import read_run
from ademvl.data.choices import NO_ANSWER
from ademvl.data.mme import load_benchmark
from ademvl.data.scienceqa import load_scienceqa
from ademvl.errors import DataError, list_findings
from ademvl.evaluation.predictions import Row
from ademvl.storage.files import read_json_or_lines, write_text

_REMEDY = "Evaluate the run first: `ademvl evaluate`."


def write_predictions(run_dir: Path, output: Path) -> int:
    """Write the predictions of a run to a file; return how many they are.

    Args:
        run_dir: folder with run.yaml and predictions/.
        output: by custom .jsonl for samples of lmms-eval; the COCO server asks for a file named
            captions_<split>_<name>_results.json.

    Raises:
        SettingsError, DataError: settings, predictions or data set are missing or malformed, or the
            predictions are of other items than the data set has.
    """
    run = read_run(run_dir)
    path = run_dir / "predictions" / f"{run.evaluation_task}.jsonl"
    rows = _read_rows(path, *_NEEDED[run.task])
    written, is_list = _WRITE[run.task](run, path, rows)
    text = json.dumps(written) if is_list else "\n".join(map(json.dumps, written))
    write_text(output, f"{text}\n")
    return len(written)


def _read_rows(path: Path, key: str, expected: type) -> list[Row]:
    """Read predictions that have an id and the key that is written.

    Raises:
        DataError: missing or malformed file; lists rows without either.
    """
    rows = read_json_or_lines(path, remedy=_REMEDY)
    rows = rows if isinstance(rows, list) else [rows]
    findings = [
        f"row {number}: expected an object with id and {key}"
        for number, row in enumerate(rows, start=1)
        if not (
            isinstance(row, dict)
            and isinstance(row.get("id"), str)
            and type(row.get(key)) is expected
        )
    ]
    if findings:
        raise DataError(list_findings(f"{path}: predictions cannot be read", findings, _REMEDY))
    return rows


_Written = tuple[list[dict[str, object]], bool]
"""Objects, and whether they stand in one list rather than one a line."""
_Write = Callable[[RunSettings, Path, Sequence[Row]], _Written]


def _for_coco_server(run: RunSettings, path: Path, rows: Sequence[Row]) -> _Written:
    ids = {str(row["id"]) for row in rows}
    if other := sorted(item for item in ids if not (item.isascii() and item.isdecimal())):
        findings = [f"item {item!r:.80}: is no image id" for item in other]
        raise DataError(list_findings(f"{path}: predictions cannot be read", findings, _REMEDY))
    return [{"image_id": int(str(row["id"])), "caption": row["caption"]} for row in rows], True


def _scienceqa_samples(run: RunSettings, path: Path, rows: Sequence[Row]) -> _Written:
    problems = load_scienceqa(Path(run.data_dir)).split(run.evaluation.split)
    by_id = _by_id(path, rows, [problem.question_id for problem in problems])
    samples: list[dict[str, object]] = []
    for problem in problems:
        index = int(str(by_id[problem.question_id]["predicted_index"]))
        if not NO_ANSWER <= index < len(problem.choices):
            what = f"question {problem.question_id}: choice {index}, of {len(problem.choices)}"
            raise DataError(f"{path}: {what}. {_REMEDY}")
        answer = "" if index == NO_ANSWER else ascii_uppercase[index]
        doc = {"question": problem.question, "choices": list(problem.choices)}
        target = ascii_uppercase[problem.answer_index]
        samples.append(_sample(len(samples), doc, target, answer))
    return samples, False


def _mme_samples(run: RunSettings, path: Path, rows: Sequence[Row]) -> _Written:
    questions = load_benchmark(Path(run.evaluation_data_dir))
    samples: list[dict[str, object]] = []
    if len(questions) != len(rows):
        raise DataError(f"{path}: {len(rows)} answers to {len(questions)} questions. {_REMEDY}")
    for question, row in zip(questions, rows, strict=True):
        doc = {
            "question_id": f"{question.task}/{question.image.name}",
            "category": question.task,
            "question": question.question,
            "answer": question.gold,
        }
        samples.append(_sample(len(samples), doc, question.gold, str(row["text"])))
    return samples, False


def _sample(doc_id: int, doc: Mapping[str, object], target: str, answer: str) -> dict[str, object]:
    return {
        "doc_id": doc_id,
        "doc": dict(doc),
        "target": target,
        "resps": [[answer]],
        "filtered_resps": [answer],
    }


def _by_id(path: Path, rows: Sequence[Row], item_ids: Sequence[str]) -> dict[str, Row]:
    """Return rows by id, after making sure that each item has one."""
    found = {str(row["id"]): row for row in rows}
    if missing := [f"question {item}: no prediction" for item in item_ids if item not in found]:
        raise DataError(list_findings(f"{path}: of other data", missing, _REMEDY))
    return found


_NEEDED: Mapping[Task, tuple[str, type]] = {
    "scienceqa": ("predicted_index", int),
    "coco_caption": ("caption", str),
    "instruction": ("text", str),
}
"""Key of a row that is written, and its type."""
_WRITE: Mapping[Task, _Write] = {
    "scienceqa": _scienceqa_samples,
    "coco_caption": _for_coco_server,
    "instruction": _mme_samples,
}
