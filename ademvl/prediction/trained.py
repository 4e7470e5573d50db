"""A trained adapter with everything that it needs to answer: its settings and its folder.

The adapter folder is enough; where a run's directory is given, run.yaml adds how to evaluate.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from ademvl.adapter_file import DESCRIPTION_FILE
from ademvl.config.run import RunSettings
from ademvl.config.schema import build, check, schema_of
from ademvl.config.study import read_run
from ademvl.errors import WeightsError
from ademvl.files import read_json

_REMEDY = "Name a run's directory or an adapter folder, as `ademvl train` makes them."
_ADAPTER_KEYS = ("task", "method", "backbones", "features", "prompts")


@dataclass(frozen=True)
class TrainedAdapter:
    """Where an adapter lies, and the settings to use it with."""

    folder: Path
    run: RunSettings


def find_adapter(path: Path) -> TrainedAdapter:
    """Read the settings of a trained adapter.

    What the adapter was trained with comes from adapter.json; seed, withheld images and settings
    of evaluation from run.yaml, where there is one, else they are the defaults.

    Args:
        path: a run's directory, its run.yaml, or an adapter folder.

    Raises:
        WeightsError: no adapter there, or its description is malformed.
        SettingsError: wrong settings.
    """
    if path.name == "run.yaml":
        path = path.parent
    folder = path if (path / DESCRIPTION_FILE).is_file() else path / "adapter"
    description_file = folder / DESCRIPTION_FILE
    if not description_file.is_file():
        raise WeightsError(f"{path}: no trained adapter there (no {description_file}). {_REMEDY}")
    description = read_json(description_file, remedy=_REMEDY)
    trained = description.get("settings") if isinstance(description, dict) else None
    if not isinstance(trained, dict):
        raise WeightsError(f"{description_file}: holds no settings. {_REMEDY}")
    identity = {"study": "", "name": path.name, "seed": 0, "data_dir": ""}
    raw = identity | trained
    run = build(RunSettings, check(raw, schema_of(RunSettings), source=str(description_file)))
    run_dir = folder.parent
    if (run_dir / "run.yaml").is_file():
        run = replace(read_run(run_dir), **{key: getattr(run, key) for key in _ADAPTER_KEYS})
    return TrainedAdapter(folder, run)
