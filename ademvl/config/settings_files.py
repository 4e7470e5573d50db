"""Resolved settings as files: of a study (study.yaml) and of each run (run.yaml)."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ademvl.config.downloads import DownloadSettings
from ademvl.config.includes import read_with_lines
from ademvl.config.plain import all_plain, to_plain
from ademvl.config.reading import read
from ademvl.config.run import TRAINED, RunSettings
from ademvl.config.study import Study
from ademvl.config.study_settings import StudySettings
from ademvl.errors import SettingsError
from ademvl.storage.files import parse_json, write_text

STUDY_FILE = "study.yaml"
RUN_FILE = "run.yaml"
_SEED_FOLDER = re.compile(r"seed(\d{1,9})")


def run_to_plain(run: RunSettings) -> dict[str, Any]:
    """Return a run's settings as nested dicts and lists, without `augmentation` where it is idle.

    So runs that it does not concern have the same settings, and results, as before it existed.
    """
    plain = to_plain(run)
    if not run.could_augment:
        del plain["features"]["augmentation"]
    return plain


def run_to_json(run: RunSettings) -> str:
    """Render a run's settings as one line of JSON, the same for the same settings."""
    return json.dumps(run_to_plain(run))


def study_to_json(study: Study) -> str:
    """Render a study's settings as one line of JSON, the same for the same settings."""
    plain = to_plain(study.settings)
    templates = study.settings.runs
    is_pooled = any(template.backbones.tower_cls != "token" for template in templates.values())
    for name, template in templates.items():
        if template.adapter != TRAINED:  # read again, it inherits what is not written
            plain["runs"][name] = all_plain(template)
            if not is_pooled:  # younger than present files
                del plain["runs"][name]["backbones"]["tower_cls"]
            if not template.optimization.log_to:  # younger than present files; it trains nothing
                del plain["runs"][name]["optimization"]["log_to"]
    for run in plain["runs"].values():
        if not run["reported"]:
            del run["reported"]
    datasets = {name: dataset.to_plain() for name, dataset in study.settings.datasets.items()}
    if study.settings.downloads == DownloadSettings():
        del plain["downloads"]
    if not study.settings.backbones:
        del plain["backbones"]
    del plain["gpus"]  # of the machine at hand, not of the study
    return json.dumps({**plain, "datasets": datasets, "defaults": {}})


def write_settings(path: Path, settings_json: str) -> None:
    """Write a study's or run's JSON settings as YAML, after checking them."""
    raw = parse_json(settings_json, place="settings", remedy="The workflow passes them as JSON.")
    is_study = isinstance(raw, Mapping) and "runs" in raw
    settings_class = StudySettings if is_study else RunSettings
    read(settings_class, raw, source=str(path))
    write_text(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))


def read_run(run_dir: Path) -> RunSettings:
    """Read the resolved settings of a run from <run_dir>/run.yaml.

    Raises:
        SettingsError: missing or malformed file, wrong settings, or another seed than the folder's
            name says: a copy of a seed is no second training.
    """
    run = read_copied_run(run_dir)
    seed = _SEED_FOLDER.fullmatch(run_dir.resolve().name)
    if seed and int(seed[1]) != run.seed:
        raise SettingsError(
            f"{run_dir / RUN_FILE}: seed is {run.seed}, but the folder is {seed[0]}: a copy of a "
            f"seed is no other training. Remove it, or set seed to {seed[1]} and train anew"
        )
    return run


def read_copied_run(run_dir: Path) -> RunSettings:
    """Read the resolved settings from <run_dir>/run.yaml, whatever the folder is called.

    Raises:
        SettingsError: missing or malformed file, or wrong settings.
    """
    path = run_dir / RUN_FILE
    raw, key_lines = read_with_lines(path, name=str(path))
    return read(RunSettings, raw, source=str(path), key_lines=key_lines)
