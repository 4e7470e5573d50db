"""A trained adapter with everything that it needs to answer: its settings and its folder.

The adapter folder is enough; where a run's directory is given, run.yaml adds how to evaluate.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import RUN_FILE, read_run
from ademvl.errors import SettingsError, WeightsError
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, check_settings, trained_settings
from ademvl.runs.adapter_training import check_training
from ademvl.runs.run_files import RunFiles

_log = logging.getLogger(__name__)
_REMEDY = "Name a run's directory or an adapter folder, as `ademvl train` makes them."


@dataclass(frozen=True)
class TrainedAdapter:
    """Where an adapter lies, and the settings to use it with."""

    folder: Path
    run: RunSettings


def find_adapter(path: Path) -> TrainedAdapter:
    """Read the settings of a trained adapter: run.yaml's where there is one, else adapter.json's.

    Args:
        path: a run's directory, that of one of its seeds, the run.yaml there, or an adapter
            folder. Of a run the lowest seed that is trained is taken.

    Raises:
        WeightsError: no adapter there, its description is malformed, says other settings than
            run.yaml, or is of another run's training.
        SettingsError: wrong settings, or the run is of a whole system, which has no adapter.
    """
    if path.name == RUN_FILE:
        path = path.parent
    path = _lowest_seed(path) or path
    folder = path if (path / DESCRIPTION_FILE).is_file() else RunFiles(path).adapter
    if not (folder / DESCRIPTION_FILE).is_file():
        raise WeightsError(
            f"{path}: no trained adapter there (no {folder / DESCRIPTION_FILE}). {_REMEDY}"
        )
    is_of_run = RunFiles(folder.parent).settings.is_file()
    run = read_run(folder.parent) if is_of_run else trained_settings(folder)
    if run.method.kind != "method":
        raise SettingsError(
            f"{path}: method {run.method.name} is no adapter on a language model; it is evaluated "
            "by `ademvl evaluate` alone"
        )
    if not is_of_run:
        return TrainedAdapter(folder, run)
    check_settings(folder, run)
    check_training(folder, run)
    return TrainedAdapter(folder, run)


def _lowest_seed(path: Path) -> Path | None:
    """Return the directory of the lowest seed of a run that has an adapter; None without any."""
    described = path.glob(f"seed*/adapter/{DESCRIPTION_FILE}")
    seeds = sorted(
        (file.parent.parent for file in described), key=lambda seed: (len(seed.name), seed)
    )
    if seeds:
        _log.info("%s: %s of %d trained seeds", path, seeds[0].name, len(seeds))
    return seeds[0] if seeds else None
