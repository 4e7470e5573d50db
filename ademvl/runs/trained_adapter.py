"""A trained adapter with everything that it needs to answer: its settings and its folder.

The adapter folder is enough; where a run's directory is given, run.yaml adds how to evaluate.
"""

from dataclasses import dataclass
from pathlib import Path

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.errors import WeightsError
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, check_settings, trained_settings
from ademvl.runs.adapter_training import check_training

_REMEDY = "Name a run's directory or an adapter folder, as `ademvl train` makes them."


@dataclass(frozen=True)
class TrainedAdapter:
    """Where an adapter lies, and the settings to use it with."""

    folder: Path
    run: RunSettings


def find_adapter(path: Path) -> TrainedAdapter:
    """Read the settings of a trained adapter: run.yaml's where there is one, else adapter.json's.

    Args:
        path: a run's directory, its run.yaml, or an adapter folder.

    Raises:
        WeightsError: no adapter there, its description is malformed, says other settings than
            run.yaml, or is of another run's training.
        SettingsError: wrong settings.
    """
    if path.name == "run.yaml":
        path = path.parent
    folder = path if (path / DESCRIPTION_FILE).is_file() else path / "adapter"
    if not (folder / DESCRIPTION_FILE).is_file():
        raise WeightsError(
            f"{path}: no trained adapter there (no {folder / DESCRIPTION_FILE}). {_REMEDY}"
        )
    if not (folder.parent / "run.yaml").is_file():
        return TrainedAdapter(folder, trained_settings(folder))
    run = read_run(folder.parent)
    check_settings(folder, run)
    check_training(folder, run)
    return TrainedAdapter(folder, run)
