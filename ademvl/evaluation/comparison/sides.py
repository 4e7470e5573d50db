"""Reads the two sides of a comparison: predictions of runs, or of files, on the same questions.

A side is a run's directory, the folder that holds a run's seeds, or a file of predictions in a
shape that `ademvl score` reads, together with the data set they belong to.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ademvl.config.evaluation import Split
from ademvl.config.run import GIVEN_ADAPTERS, RunSettings
from ademvl.config.settings_files import RUN_FILE, read_run
from ademvl.config.tasks import TaskName, facts_of
from ademvl.data.choices import NO_ANSWER
from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.evaluation.asked import asked_now, asked_of, other_parts
from ademvl.evaluation.predictions import is_sealed, read_header
from ademvl.runs.identity import evaluation_settings, training_settings, without_places
from ademvl.runs.run_files import RunFiles
from ademvl.runs.run_state import present_adapter
from ademvl.storage.files import read_json_lines
from ademvl.tasks.base import RightAnswers
from ademvl.tasks.registry import task_named, task_of_data

_log = logging.getLogger(__name__)
_REMEDY = "Evaluate the run again (`ademvl evaluate`), or correct the file."


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison.

    Attributes:
        label: run or file, for the output.
        task: what was predicted.
        sources: file of each seed's predictions.
        adapters: checksum of each seed's adapter; none for a file.
        predictions: for each seed what was predicted, by item id.
        answers: what is right, in data set order.
        num_unread: of a file's texts: how many name no choice.
    """

    label: str
    task: TaskName
    sources: tuple[Path, ...]
    adapters: tuple[str, ...] = ()
    predictions: tuple[Mapping[str, Any], ...]
    answers: RightAnswers
    num_unread: int = 0

    @property
    def item_ids(self) -> list[str]:
        """Ids of the data set's items, in its order."""
        return list(self.answers.by_id)


def read_side(path: Path, *, data_dir: Path | None = None, split: Split | None = None) -> Side:
    """Read one side of a comparison.

    Args:
        path: run directory, its run.yaml, a folder of seed directories, or a file.
        data_dir: data set; needed for a file, else that of the run.
        split: of the data set; for a file `test` if not given, else that of the run.

    Raises:
        DataError: nothing to compare there, predictions that do not fit the data, or data that
            has changed since they were made; names files and ids.
        SettingsError: a file without a data set.
    """
    if path.name == RUN_FILE:
        path = path.parent
    if path.is_file():
        if data_dir is None:
            raise SettingsError(f"{path}: name the data set that it answers with --data")
        return _read_file_side(path, data_dir, split or "test")
    run_dirs = [path] if RunFiles(path).settings.is_file() else _seed_dirs(path)
    return read_seeds(run_dirs, data_dir=data_dir, split=split)


def read_seeds(
    run_dirs: Sequence[Path], *, data_dir: Path | None = None, split: Split | None = None
) -> Side:
    """Read one side of a comparison from the directories of a run's seeds, at least one.

    Args:
        run_dirs: of the same run.
        data_dir: data set, if not that of the run.
        split: of the data set, if not that of the run.

    Raises:
        DataError: see `read_side`.
    """
    runs = [read_run(run_dir) for run_dir in run_dirs]
    first = runs[0]
    root, split = data_dir or Path(first.evaluated_dir), split or first.evaluation.split
    sources = tuple(RunFiles(run_dir).predictions(first.evaluation_task) for run_dir in run_dirs)
    headers = [_read_header(source) for source in sources]
    _refuse_mixed(run_dirs[0].parent, runs, headers)
    _refuse_predictions_of_others(run_dirs, runs, headers)
    asked = replace(first, evaluation=replace(first.evaluation, split=split))
    if facts_of(first.task).benchmark:
        asked = replace(asked, evaluation_data_dir=str(root))
    else:
        asked = replace(asked, data_dir=str(root))
    present = (asked_now(asked) or asked_of(asked)).data
    adapters = tuple(
        _checked_adapter(*both, root, present) for both in zip(sources, headers, strict=True)
    )
    if first.adapter not in GIVEN_ADAPTERS:  # its seeds differ in how answers are drawn
        _refuse_same_adapters(run_dirs, adapters)
    task = task_named(first.task)
    side = Side(
        label=f"{first.study}/{first.name}",
        task=first.task,
        sources=sources,
        adapters=adapters,
        predictions=tuple(_read_lines(source, task.value_key) for source in sources),
        answers=task.right_answers(root, split),
    )
    return _fit(side)


def refuse_other_items(first: Side, second: Side) -> None:
    """Make sure that both sides answer the same questions, or describe the same images.

    Raises:
        DataError: other tasks, ids, choices, answers or references; lists the ids.
    """
    if first.task != second.task:
        raise DataError(
            f"{first.label} is {first.task}, {second.label} is {second.task}: "
            "compare runs of one task"
        )
    theirs, ours = set(second.item_ids), set(first.item_ids)
    findings = [f"{i}: only in {first.label}" for i in first.item_ids if i not in theirs]
    findings += [f"{i}: only in {second.label}" for i in second.item_ids if i not in ours]
    if not findings:
        mine, other = first.answers.contents, second.answers.contents
        findings = [f"{i}: same id, other content" for i in mine if mine[i] != other[i]]
    if findings:
        headline = f"{first.label} and {second.label} were not asked the same"
        remedy = "Compare runs on the same split of the same data."
        raise DataError(list_findings(headline, findings, remedy))


def right_answers(side: Side) -> npt.NDArray[np.bool_]:
    """Return which answers are right, (seeds, n), of a task whose answers are right or wrong."""
    task, answers = task_named(side.task), side.answers.by_id
    return np.array(
        [
            [task.is_right(found[item], answer) for item, answer in answers.items()]
            for found in side.predictions
        ]
    )


def have_same_adapters(first: Side, second: Side) -> bool:
    """Tell whether both sides are evaluations of the same adapters, seed by seed."""
    return first.adapters == second.adapters and any(first.adapters)


def _seed_dirs(path: Path) -> list[Path]:
    """Return the seeds that have predictions, in numeric order."""
    found = sorted(path.glob(f"seed*/{RUN_FILE}"), key=lambda file: (len(file.parent.name), file))
    if not found:
        raise DataError(
            f"{path}: neither a run (no run.yaml) nor the seeds of one (no seed*/run.yaml) nor a "
            "file of predictions"
        )
    seeds = [file.parent for file in found]
    evaluated = [
        seed for seed in seeds if list(RunFiles(seed).predictions_dir.glob("*.header.json"))
    ]
    for seed in seeds:
        if seed not in evaluated:
            _log.warning("%s: not evaluated, left out of the comparison", seed)
    if not evaluated:
        raise DataError(f"{path}: no seed has been evaluated; run `ademvl evaluate {seeds[0]}`")
    return evaluated


def _refuse_mixed(
    path: Path, runs: Sequence[RunSettings], headers: Sequence[Mapping[str, Any]]
) -> None:
    """Seeds of one run must differ in nothing but their seed, and in where their files lie."""
    made = [_made_with(*seed) for seed in zip(runs, headers, strict=True)]
    differing = {
        part.partition(" ")[2] for one in made for part in one if one[part] != made[0].get(part)
    }
    if differing:
        raise DataError(
            f"{path}: its seeds were made with different {', '.join(sorted(differing))}; "
            "train and evaluate them with the same settings"
        )


def _refuse_predictions_of_others(
    run_dirs: Sequence[Path], runs: Sequence[RunSettings], headers: Sequence[Mapping[str, Any]]
) -> None:
    """Make sure that predictions were made by the run's adapter, as far as it is there."""
    findings = []
    for run_dir, run, header in zip(run_dirs, runs, headers, strict=True):
        asked = without_places(evaluation_settings(run), header.get("weights") or {})
        if header.get("settings", asked) != asked:
            findings.append(f"{run_dir}: predicted with other settings than run.yaml has")
        adapter = present_adapter(run_dir, run)
        if adapter and header.get("adapter_sha256", adapter) != adapter:
            findings.append(f"{run_dir}: predicted with another adapter than is there")
    if findings:
        raise DataError(list_findings("predictions are not those of their runs", findings, _REMEDY))


def _refuse_same_adapters(run_dirs: Sequence[Path], adapters: Sequence[str]) -> None:
    """Make sure that each seed was trained: a copy of another one tells nothing about chance."""
    by_adapter: dict[str, list[str]] = {}
    for run_dir, adapter in zip(run_dirs, adapters, strict=True):
        by_adapter.setdefault(adapter, []).append(str(run_dir))
    known = (same for adapter, same in by_adapter.items() if adapter)
    findings = [" and ".join(same) for same in known if len(same) > 1]
    if findings:
        headline = f"{run_dirs[0].parent}: seeds were scored with the same adapter"
        remedy = "Remove the copies, or train each seed with `ademvl train`."
        raise DataError(list_findings(headline, findings, remedy))


def _made_with(run: RunSettings, header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what predictions depend on: data and weights by checksum, not by where they lie."""
    weights = header.get("weights") or {}
    found = {"of data": header.get("data"), "of weights": weights}
    for kind, settings in (("training", training_settings), ("evaluation", evaluation_settings)):
        parts = without_places(settings(run), weights)
        found |= {f"{kind} {key}": value for key, value in parts.items() if key != "seed"}
    return found


def _read_header(source: Path) -> Mapping[str, Any]:
    """Return what predictions were made with."""
    if not source.is_file():
        raise DataError(f"{source}: no finished predictions. {_REMEDY}")
    return read_header(source)


def _checked_adapter(
    source: Path, recorded: Mapping[str, Any], root: Path, present: Mapping[str, str]
) -> str:
    """Return the adapter's checksum, after looking whether the data set still asks the same."""
    data = recorded.get("data")
    if not isinstance(data, dict) or "texts" not in data or other_parts(data, present):
        raise DataError(f"{source}: predicted from other data than {root} holds now. {_REMEDY}")
    if not is_sealed(source):
        raise DataError(f"{source}: changed since it was made. {_REMEDY}")
    return str(recorded.get("adapter_sha256", ""))


def _read_lines(path: Path, key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    findings = []
    for number, row in enumerate(read_json_lines(path, remedy=_REMEDY), 1):
        if not (isinstance(row, dict) and {"id", key} <= row.keys()):
            findings.append(f"line {number}: no object with id and {key}")
            continue
        item_id = str(row["id"])
        if item_id in found:
            findings.append(f"line {number}: id {item_id} occurs twice")
        found[item_id] = row[key]
    if findings:
        raise DataError(list_findings(f"{path}: malformed predictions", findings, _REMEDY))
    return found


def _read_file_side(path: Path, root: Path, split: str) -> Side:
    """Read a file as `ademvl score` does; the data set tells what it answers."""
    task = task_of_data(root)
    found = task.answers_in_file(path, root, split)
    side = Side(
        label=path.stem,
        task=task.facts.name,
        sources=(path,),
        predictions=(found.values,),
        answers=_of_items(task.right_answers(root, split), found.asked),
        num_unread=found.num_unread,
    )
    return _fit(side)


def _of_items(answers: RightAnswers, asked: Collection[str] | None) -> RightAnswers:
    """Keep the items that a file is about."""
    if asked is None:
        return answers
    items = set(asked)
    by_id = {item: answer for item, answer in answers.by_id.items() if item in items}
    return replace(answers, by_id=by_id, contents={i: answers.contents[i] for i in by_id})


def _fit(side: Side) -> Side:
    """Return a side after making sure that each source answers each item, and no other."""
    for source, found in zip(side.sources, side.predictions, strict=True):
        _refuse_unfit(side, source, found)
    return side


def _refuse_unfit(side: Side, source: Path, found: Mapping[str, Any]) -> None:
    """Make sure that there is one usable prediction for each item, and none for others."""
    item_ids, task = side.item_ids, task_named(side.task)
    asked = set(item_ids)
    findings = [f"{item_id}: no prediction" for item_id in item_ids if item_id not in found]
    findings += [f"{item_id}: not in the data" for item_id in found if item_id not in asked]
    findings += [
        f"{item_id}: {value!r} is no {task.value_words}"
        for item_id, value in found.items()
        if not isinstance(value, task.value_type) or isinstance(value, bool)
    ]
    if not findings:
        findings = [
            f"{item}: choice {found[item]}, but it has 0 to {number - 1} "
            f"({NO_ANSWER} for no answer)"
            for item, number in side.answers.num_choices.items()
            if item in asked and not NO_ANSWER <= found[item] < number
        ]
    if findings:
        raise DataError(list_findings(f"{source}: does not fit the data", findings, _REMEDY))
