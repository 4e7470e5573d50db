"""Collects what a bundle of a study's results holds, without paths of the machine they come from.

Names and content depend on the results alone: the same results give the same bundle, wherever they
lie. Logs, states, the page and the data itself stay out.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ademvl.config.nested import with_leaves
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import STUDY_FILE, study_to_json
from ademvl.config.study import Study, load_study
from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.evaluation.predictions import header_file
from ademvl.reporting.figures.build import draw_figures
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import RunResult, StudyResults, read_results
from ademvl.reporting.seed_result import SeedResult
from ademvl.reporting.tables.build import render_tables
from ademvl.runs.chosen_rate import choice_file, choosing_run
from ademvl.storage.files import dump_json, read_json
from ademvl.tasks.registry import task_named

_log = logging.getLogger(__name__)

_ABSOLUTE = re.compile(r"/|~|[A-Za-z]:[\\/]|\\\\")
_REMEDY = "Run the same command again that made the file."
_PLACES = ("results_dir", "shared_dir")
_PATH_FIELDS = {"existing", "coco", "file", "data_dir", "evaluation_data_dir", "cache_dir",
                "released_from", "start_from", "llm", "tower", "tower_weights", "weights",
                "checksums", "args"}  # fmt: skip
"""Keys whose values, or values below them, may be paths; `args` are those of a released adapter."""


@dataclass(frozen=True)
class Collection:
    """What a bundle holds.

    Attributes:
        study: name that the study has in its settings, and its folder.
        files: content by name in the bundle.
        states: of each `<run>/seed<k>`: `finished`, or what keeps it out.
        ended: when the last training ended, ISO 8601; empty without any.
    """

    study: str
    files: Mapping[str, bytes]
    states: Mapping[str, str]
    ended: str


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is collected beside scores, predictions, provenance, settings and tables.

    Attributes:
        figures: whether figures are drawn anew, from what is collected.
        adapters: whether the weights come too, which are most of the size.
    """

    figures: bool = False
    adapters: bool = False


def collect(
    results_dir: Path, extras: Extras = Extras(), *, refuse_doubtful: bool = True
) -> Collection:
    """Collect the results of a study.

    Args:
        results_dir: <results>/<study>, or the study.yaml in it.
        extras: what else to collect.
        refuse_doubtful: see `read_results`; else the tables are without doubtful scores.

    Raises:
        DataError: nothing there has been finished; or a file is missing or malformed, or holds a
            path of this machine where none can be taken out; or scores are doubtful.
        SettingsError: the study's settings are wrong.
    """
    folder = (results_dir.parent if results_dir.name == STUDY_FILE else results_dir).resolve()
    study = load_study(folder / STUDY_FILE)
    with chdir(_root(folder, study)):
        results = read_results(study, refuse_doubtful=refuse_doubtful)
        return _collect(folder, results, extras)


def _root(folder: Path, study: Study) -> Path:
    """Return the folder that paths of the study are relative to, wherever it is called from.

    Raises:
        SettingsError: the study's settings say that its results lie elsewhere.
    """
    parts = Path(os.path.normpath(study.results_dir)).parts
    if folder.parts[-len(parts) :] != parts:
        raise SettingsError(
            f"{folder}: its study.yaml says that results are in {study.results_dir}; give the "
            "folder these names again"
        )
    return Path(*folder.parts[: -len(parts)] or "/")


def _collect(folder: Path, results: StudyResults, extras: Extras) -> Collection:
    study, reported = results.study, load_reported()
    files = {STUDY_FILE: _yaml(_study_settings(study))}
    states, ended = {}, ""
    for run, seed in _seeds(results.runs):
        name = f"{run.name}/seed{seed.settings.seed}"
        states[name] = seed.state
        if seed.state != "finished":
            reason = f" ({seed.reason})" if seed.reason else ""
            _log.warning("%s: %s%s, left out", name, seed.state, reason)
            continue
        ended = max(ended, str(seed.provenance.get("ended", "")))
        files.update(_run_files(f"runs/{name}", seed, extras))
    if "finished" not in states.values():
        raise DataError(f"{folder}: no run is finished; run `snakemake` first")
    files.update(_answers(results))
    files.update(_rates(results))
    tables = render_tables(results, reported)
    files.update({f"tables/{name}": text.encode() for name, text in tables.items()})
    if extras.figures:
        with TemporaryDirectory() as drawn:
            draw_figures(results, reported, Path(drawn))
            files.update({f"figures/{p.name}": p.read_bytes() for p in Path(drawn).iterdir()})
    _refuse_paths(folder, files)
    return Collection(study.name, dict(sorted(files.items())), states, ended)


def _seeds(runs: tuple[RunResult, ...]) -> Iterator[tuple[RunResult, SeedResult]]:
    return ((run, seed) for run in runs for seed in run.seeds)


def _study_settings(study: Study) -> dict[str, Any]:
    """Return a study's settings without the places where its files lie."""
    plain = json.loads(study_to_json(study))
    return {key: value for key, value in plain.items() if key not in _PLACES}


def _run_files(prefix: str, seed: SeedResult, extras: Extras) -> Iterator[tuple[str, bytes]]:
    files = seed.files

    def name(path: Path) -> str:
        return f"{prefix}/{path.relative_to(seed.run_dir).as_posix()}"

    raw = yaml.safe_load(files.settings.read_text(encoding="utf-8"))
    yield name(files.settings), _yaml(raw)
    without_paths = [files.provenance, seed.scores_path, files.lmms_scores]
    without_paths.append(header_file(seed.predictions_path))
    as_they_are = [seed.predictions_path, files.metrics, files.kept]
    if extras.adapters and files.adapter.is_dir():
        yield name(files.adapter_json), _json(read_json(files.adapter_json, remedy=_REMEDY))
        as_they_are.append(files.adapter_weights)
    for path in filter(Path.is_file, without_paths):
        yield name(path), _json(read_json(path, remedy=_REMEDY))
    for path in filter(Path.is_file, as_they_are):
        yield name(path), path.read_bytes()


def _answers(results: StudyResults) -> Iterator[tuple[str, bytes]]:
    """Give what predictions are compared with, once for each data set and split."""
    asked: dict[str, RunSettings] = {}
    for run, seed in _seeds(results.runs):
        if seed.state == "finished":
            template, settings = results.study.settings.runs[run.name], seed.settings
            dataset = template.evaluation_dataset or template.dataset
            name = answers_name(dataset, settings.evaluation_task, settings.evaluation.split)
            asked.setdefault(name, settings)
    for name, settings in asked.items():
        try:
            yield name, dump_json(right_answers(settings)).encode()
        except DataError as error:
            _log.warning("no right answers, so no paired tests later: %s", error)


def _rates(results: StudyResults) -> Iterator[tuple[str, bytes]]:
    """Give what each finished run's learning rate was chosen from: grid, scores on val, time."""
    for run, seed in _seeds(results.runs):
        if seed.state == "finished" and (owner := choosing_run(run.settings)):
            record = choice_file(results.study.results_dir, owner)
            if record.is_file():
                yield f"rates/{owner}.json", _json(read_json(record, remedy=_REMEDY))


def answers_name(dataset: str, task: str, split: str) -> str:
    """Return the name in a bundle of the right answers to a split of a data set."""
    return f"answers/{dataset}/{task}_{split}.json"


def right_answers(run: RunSettings) -> dict[str, Any]:
    """Return what a run's predictions are compared with, by item id; see `Task.right_answers`.

    Raises:
        DataError: the data set is not there, or malformed.
    """
    found = task_named(run.task).right_answers(Path(run.evaluated_dir), run.evaluation.split)
    return dict(found.by_id)


def _yaml(value: Any) -> bytes:
    text = yaml.safe_dump(with_leaves(value, _without_place), sort_keys=False, allow_unicode=True)
    return text.encode()


def _json(value: Any) -> bytes:
    return dump_json(with_leaves(value, _without_place)).encode()


def _without_place(path: Sequence[str], value: Any) -> Any:
    """Keep the last name of absolute paths only: where files lay says nothing about results."""
    may_be_path = not _PATH_FIELDS.isdisjoint(path)
    if may_be_path and isinstance(value, str) and _ABSOLUTE.match(value):
        return f"<path>/{_last_name(value)}"
    return value


def _last_name(path: str) -> str:
    """Return a path's last name, unless that is a home folder's, which tells who somebody is."""
    if Path(path) == Path.home() or (path.startswith("~") and "/" not in path):
        return ""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _refuse_paths(folder: Path, files: Mapping[str, bytes]) -> None:
    places = {str(Path.home()), str(Path.cwd()), str(folder.resolve())} - {"/"}
    findings = [
        f"{name}: {place}"
        for name, content in files.items()
        for place in sorted(places)
        if re.search(re.escape(place.encode()) + rb"(?![\w.-])", content)
    ]
    if findings:
        remedy = "Take them out of the study's labels, or make these files again without them."
        raise DataError(list_findings("paths of this machine would be passed on", findings, remedy))
