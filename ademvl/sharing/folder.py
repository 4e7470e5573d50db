"""The folder that passes an adapter on: a small run's directory with a card and golden answers.

`ademvl.load` and every verb that takes a run's directory read it as it is. Nothing in it names a
place of the machine that wrote it.
"""

from dataclasses import replace
from pathlib import Path
from shutil import copyfile

from ademvl.config.mini_backbones import MINI_LLMS
from ademvl.config.run import TRAINED, FeatureSettings, RunSettings
from ademvl.config.settings_files import RUN_FILE, run_to_json, write_settings
from ademvl.errors import SettingsError
from ademvl.runs.adapter_folder import (
    DESCRIPTION_FILE,
    REMEDY,
    WEIGHTS_FILE,
    adapter_checksum,
    described_settings,
)
from ademvl.runs.run_files import RunFiles
from ademvl.runs.trained_adapter import TrainedAdapter, find_adapter
from ademvl.storage.files import read_json, write_json, write_text
from ademvl.storage.folders import folder_built_aside

CARD_FILE, GOLDEN_FILE = "README.md", "golden.json"
_SHARED = RunFiles(Path())
_NAMES = (CARD_FILE, GOLDEN_FILE, str(_SHARED.settings), str(_SHARED.provenance))
_ENTRIES = (*_NAMES, str(_SHARED.scores_dir), str(_SHARED.adapter))
PATTERNS = (*_NAMES, f"{_SHARED.scores_dir}/*.json", f"{_SHARED.adapter}/*")
"""Files of such a folder; nothing else goes to the hub or comes from there."""


def export_folder(
    path: Path, folder: Path, *, llm: str = "", tower_weights: str = "", license_name: str = "other"
) -> None:
    """Write an adapter as a folder for the Hugging Face hub, golden answers computed now.

    Args:
        path: a run's directory, or an adapter folder.
        folder: to write; appears complete.
        llm: the language model as others find it, where the run's is a folder of this machine.
        tower_weights: likewise, of the vision tower.
        license_name: of the adapter, as the hub calls licences.

    Raises:
        WeightsError: there is no complete adapter.
        SettingsError: frozen models are known by a place of this machine alone.
        DataError: scores of its study are malformed, or `folder` holds something else.
    """
    from ademvl.sharing.card import model_card
    from ademvl.sharing.golden_answers import record_answers

    trained = find_adapter(path)
    adapter_checksum(trained.folder)
    run = _portable(trained.run, llm=llm, tower_weights=tower_weights)
    card = model_card(trained, run, license_name=license_name)
    answers = record_answers(trained)
    with folder_built_aside(folder, entries=_ENTRIES) as aside:
        files = RunFiles(aside)
        write_settings(files.settings, run_to_json(run))
        write_text(aside / CARD_FILE, card)
        write_json(aside / GOLDEN_FILE, answers)
        files.adapter.mkdir()
        copyfile(trained.folder / WEIGHTS_FILE, files.adapter_weights)
        _copy_records(trained, aside)
        description = read_json(trained.folder / DESCRIPTION_FILE, remedy=REMEDY)
        description["settings"] = described_settings(run)
        write_json(files.adapter_json, description)


def check_folder(folder: Path) -> TrainedAdapter:
    """Make sure that a folder was written by `export_folder` and is whole.

    Raises:
        WeightsError: there is no complete adapter.
        SettingsError: something else is missing.
    """
    trained = find_adapter(folder)
    missing = [name for name in (CARD_FILE, GOLDEN_FILE, RUN_FILE) if not (folder / name).exists()]
    if missing:
        raise SettingsError(
            f"{folder}: no {', '.join(missing)} there; write such a folder by "
            "`ademvl adapter export RUN --hub DIR`"
        )
    adapter_checksum(trained.folder)
    return trained


def _portable(run: RunSettings, *, llm: str, tower_weights: str) -> RunSettings:
    """Return settings in which no place of this machine stands."""
    backbones = run.backbones
    chosen = replace(
        backbones,
        llm=llm or backbones.llm,
        tower_weights=tower_weights or backbones.tower_weights,
    )
    for key in ("llm", "tower_weights"):
        name = getattr(chosen, key)
        if name not in MINI_LLMS and name and Path(name).exists():
            option = f"--{key.replace('_', '-')}"
            raise SettingsError(
                f"backbones.{key}: {name} is a place of this machine; say by {option} what others "
                "load, such as the repository of the hub that it came from"
            )
    return replace(
        run,
        data_dir="",
        evaluation_data_dir="",
        adapter=TRAINED,
        released_from="",
        start_from="",
        backbones=chosen,
        features=replace(run.features, cache_dir=FeatureSettings().cache_dir),
    )


def _copy_records(trained: TrainedAdapter, folder: Path) -> None:
    """Copy what is told of the training, and scores of this adapter."""
    told, files = RunFiles(trained.folder.parent), RunFiles(folder)
    if told.provenance.is_file():
        copyfile(told.provenance, files.provenance)
    description = read_json(trained.folder / DESCRIPTION_FILE, remedy=REMEDY)
    for path in sorted(told.scores_dir.glob("*.json")):
        scores = read_json(path, remedy="Evaluate the run again.")
        if scores.get("header", {}).get("adapter_sha256") == description["sha256"]:
            files.scores_dir.mkdir(exist_ok=True)
            copyfile(path, files.scores_dir / path.name)
