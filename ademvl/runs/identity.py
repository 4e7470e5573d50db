"""What determines results: which settings, data and weights, and the verb's version.

Trainings of another identity are not resumed, and a finished adapter of the same one is not trained
again; the workflow runs a job again when the settings change that its verb's results depend on.
What each setting changes stands at its field; where files lie, how often states are written and how
many items a device holds at once have no part in it; neither has the number of threads, which only
moves the rounding.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ademvl.config.influence import evaluates_anew, fields_of, trains_anew
from ademvl.config.method import TowerStates
from ademvl.config.mini_backbones import MINI_BACKBONES
from ademvl.config.nested import without
from ademvl.config.plain import default_of, to_plain
from ademvl.config.run import BackboneSettings, RunSettings
from ademvl.config.settings_files import run_to_plain
from ademvl.config.tasks import facts_evaluated_as
from ademvl.errors import DataError
from ademvl.runs.adapter_folder import adapter_checksum
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.storage.checksums import checksum_file, checksum_files
from ademvl.storage.files import dump_json

_COUNTED_ONCE = ("optimization.log_interval_steps",)
"""Settings that no result depends on, but which stand in what present results are compared by: they
go on to stand there, at their default whatever they are."""
_UNREAD_IN_STAGES = {"rationale": ("answer_by",)}
"""Settings of evaluation that no predictions of a stage depend on which is no task."""
_SHOWN_DIGITS = 12
START = "start_from"
"""Name under `weights` of the adapter that a training started from."""


def training_settings(run: RunSettings) -> dict[str, Any]:
    """Return the settings that a trained adapter depends on, as plain JSON."""
    settings = run_to_plain(_with_defaults(run, _COUNTED_ONCE))
    for path, said, _ in fields_of(run):
        name = ".".join(path)
        if name not in _COUNTED_ONCE and (said.by_content or not trains_anew(said)):
            settings = without(settings, path)
    return settings


def evaluation_settings(run: RunSettings, *, task: str = "") -> dict[str, Any]:
    """Return the settings that predictions depend on, beside the adapter, as plain JSON.

    Of method, backbones and prompts, those that only the adapter depends on stand there as well:
    they always did, and with them the adapter is another one anyway.

    Args:
        task: what is asked, such as `mme`; that of the run's score file if not given.
    """
    asked = task or run.evaluation_task
    unread = _UNREAD_IN_STAGES.get(asked) or facts_evaluated_as(asked).unread
    plain = to_plain(run)
    for path, said, _ in fields_of(run):
        is_whole = path[0] in ("method", "backbones", "prompts") and trains_anew(said)
        if not (is_whole or evaluates_anew(said)):
            plain = without(plain, path)
    kept = {key: plain[key] for key in ("task", "images", "method", "backbones", "prompts")}
    evaluation = {key: value for key, value in plain["evaluation"].items() if key not in unread}
    return kept | {"evaluation": evaluation, "features": plain["features"]}


def feature_settings(run: RunSettings) -> dict[str, Any]:
    """Return the settings that the cached features of a run depend on, as plain JSON."""
    plain = to_plain(run)
    read = ("data_dir", "evaluation_data_dir", "task", "features")
    of_tower = ("tower", "tower_weights", "tower_cls")  # the last where it is not the default
    tower = {key: plain["backbones"][key] for key in of_tower if key in plain["backbones"]}
    found = {key: plain[key] for key in read if key in plain} | tower
    if run.method.tower_states != TowerStates():  # cached features had no others once
        found["tower_states"] = asdict(run.method.tower_states)
    return found


def _with_defaults(run: RunSettings, names: Sequence[str]) -> RunSettings:
    """Put defaults in place of settings of a run's groups."""
    for name in names:
        group, _, key = name.partition(".")
        settings = getattr(run, group)
        defaults = {field.name: default_of(field) for field in fields(settings)}
        run = replace(run, **{group: replace(settings, **{key: defaults[key]})})
    return run


def training_identity(run: RunSettings) -> dict[str, Any]:
    """Return the identity as plain JSON, without loading anything.

    Raises:
        DataError: the run's data set is not there.
        WeightsError: the released adapter that it evaluates, or the one that it starts from, is
            not there.
    """
    return _identity(
        run,
        data={} if run.method.is_given else data_checksums(Path(run.data_dir)),
        weights=weight_checksums(run.backbones) | _adapter_checksums(run),
    )


def recorded_identity(run: RunSettings, checksums: Mapping[str, str]) -> dict[str, Any]:
    """Return the identity of a training with these settings, on data and weights as recorded.

    Args:
        checksums: as they stand in provenance.json, by kind and name.
    """
    parts: dict[str, dict[str, str]] = {"data": {}, "weights": {}}
    for path, checksum in checksums.items():
        kind, _, name = path.partition("/")
        parts.setdefault(kind, {})[name] = checksum
    return _identity(run, data=parts["data"], weights=parts["weights"])


def _identity(
    run: RunSettings, *, data: Mapping[str, str], weights: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "version": RESULT_VERSIONS["train"],
        "settings": without_places(training_settings(run), weights),
        "data": data,
        "weights": weights,
    }


def without_places(settings: dict[str, Any], weights: Mapping[str, str]) -> dict[str, Any]:
    """Leave out where weights lie, as their checksums say what they are.

    Args:
        settings: with `backbones`.
        weights: as `weight_checksums` gives them.
    """
    known = {name.partition("/")[0] for name, text in weights.items() if text.startswith("sha256:")}
    backbones = {
        key: value
        for key, value in settings["backbones"].items()
        if key not in known or value in MINI_BACKBONES.get(key, ())
    }
    return settings | {"backbones": backbones}


def _adapter_checksums(run: RunSettings) -> dict[str, str]:
    """Return checksums of adapters that are there before: a released one, one to start from."""
    found = {}
    if run.released_from:
        from ademvl.config.released import find_checkpoint

        found["released"] = checksum_file(find_checkpoint(Path(run.released_from)))
    if run.start_from:
        found[START] = f"sha256:{adapter_checksum(Path(run.start_from))}"
    return found


def identity_sha256(identity: Mapping[str, Any]) -> str:
    """Return a fingerprint of an identity."""
    return hashlib.sha256(dump_json(identity).encode()).hexdigest()


def data_checksums(data_dir: Path) -> dict[str, str]:
    """Return checksums of a data set's JSON files; its images are not read.

    Raises:
        DataError: no such files.
    """
    paths = [*data_dir.glob("*.json"), *data_dir.glob("*/*.json")]
    if not paths:
        raise DataError(
            f"{data_dir}: no data set there (no JSON file); make it with `snakemake data` "
            "or correct data_dir"
        )
    return checksum_files(data_dir, paths)


def study_checksum(runs: Sequence[RunSettings]) -> str:
    """Return a short checksum of what the results of a study depend on, wherever its files lie.

    Two study files with the same checksum describe the same runs, however they are written.
    """
    settings = []
    for run in runs:
        asked = evaluation_settings(run)
        del asked["backbones"]  # training has them, without the places of files
        begun = Path(run.start_from).parts[-3:]  # run, seed, `adapter`; none without one
        settings.append([run.name, run.seed, training_settings(run), asked, *begun])
    return hashlib.sha256(dump_json(settings).encode()).hexdigest()[:_SHOWN_DIGITS]


def changed_data(provenance: Mapping[str, Any], present: Mapping[str, str]) -> list[str]:
    """Name the files of a data set that are others than a run was trained on.

    None where provenance does not say what they were.

    Args:
        present: of the run's data set, as `data_checksums` gives them.
    """
    recorded = {
        name.removeprefix("data/"): checksum
        for name, checksum in (provenance.get("checksums") or {}).items()
        if name.startswith("data/")
    }
    names = sorted({*recorded, *present}) if recorded else []
    return [name for name in names if recorded.get(name) != present.get(name)]


def weight_checksums(backbones: BackboneSettings) -> dict[str, str]:
    """Return checksums of the backbones' files; a name stands for itself where none are local."""
    checksums = {}
    for part, name, shipped in (
        ("llm", backbones.llm, MINI_BACKBONES["llm"]),
        ("tower", backbones.tower, MINI_BACKBONES["tower"]),
    ):
        if not name:
            continue  # not read: a system has its own tower
        path = shipped.get(name, Path(name))
        if path.is_dir():
            files = checksum_files(path, (file for file in path.iterdir() if file.is_file()))
            checksums.update({f"{part}/{file}": checksum for file, checksum in files.items()})
        elif path.is_file():
            checksums[part] = checksum_file(path)
        else:
            checksums[part] = name
    weights = Path(backbones.tower_weights)
    if weights.is_file():
        checksums["tower_weights"] = checksum_file(weights)
    elif backbones.tower_weights and weights.is_dir():
        files = checksum_files(weights, (file for file in weights.iterdir() if file.is_file()))
        checksums.update({f"tower_weights/{file}": text for file, text in files.items()})
    return checksums
