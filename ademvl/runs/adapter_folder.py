"""The folder of a trained adapter: whether it is whole, and with which settings it was trained."""

from pathlib import Path

from ademvl.config.influence import binds_adapter, differing
from ademvl.config.reading import read
from ademvl.config.run import RunSettings
from ademvl.config.settings_files import run_to_plain
from ademvl.errors import DataError, WeightsError, list_findings
from ademvl.storage.files import read_json, sha256_file

WEIGHTS_FILE = "adapter.safetensors"
DESCRIPTION_FILE = "adapter.json"
TRAINED_FORMS = "trained_forms"
"""Key of the description: forms of the prompts that it was trained on; absent where unknown."""
REMEDY = "Train the run again, or copy the adapter folder anew."
NEEDED_SETTINGS = ("task", "method", "backbones", "features", "prompts")


def described_settings(run: RunSettings) -> dict[str, object]:
    """Return what of a run's settings adapter.json holds: those that the adapter needs.

    That images were withheld stands there, too, so that nobody shows it any.
    """
    plain = run_to_plain(run)
    needed = {key: plain[key] for key in NEEDED_SETTINGS}
    return needed if run.images == "shown" else {**needed, "images": run.images}


def adapter_checksum(folder: Path) -> str:
    """Return the SHA-256 of an adapter's weights after comparing it with `adapter.json`.

    Raises:
        WeightsError: no adapter is there, or its weights are not those that were written.
    """
    try:
        recorded = read_json(folder / DESCRIPTION_FILE, remedy=REMEDY)["sha256"]
        found = sha256_file(folder / WEIGHTS_FILE)
    except (DataError, OSError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder}: no complete adapter ({error}). {REMEDY}") from error
    if found != recorded:
        raise WeightsError(
            f"{folder / WEIGHTS_FILE}: damaged, its SHA-256 is {found}, but {DESCRIPTION_FILE} "
            f"says {recorded}. {REMEDY}"
        )
    return found


def trained_settings(folder: Path) -> RunSettings:
    """Return the settings that an adapter was trained with; the rest has its defaults.

    Raises:
        WeightsError: the description is missing or holds no settings.
        SettingsError: wrong settings.
    """
    path = folder / DESCRIPTION_FILE
    try:
        settings = read_json(path, remedy=REMEDY)["settings"]
        raw = {"study": "", "name": folder.name, "seed": 0, "data_dir": "", **settings}
    except (DataError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: holds no settings ({error}). {REMEDY}") from error
    return read(RunSettings, raw, source=str(path))


def check_settings(folder: Path, run: RunSettings) -> None:
    """Make sure that a run uses an adapter as it was trained.

    Where models lie and how their numbers are held may differ: what they are is compared by their
    fingerprints when the adapter is loaded.

    Raises:
        WeightsError: lists settings that differ.
    """
    trained = trained_settings(folder)
    findings = [
        f"{key}: {value!r}, but the adapter was trained with {its!r}"
        for key, value, its in differing(run, trained, binds_adapter)
        if key.partition(".")[0] in NEEDED_SETTINGS
    ]
    if findings:
        headline = f"{folder}: trained with other settings than the run has"
        remedy = "Set these keys to what it was trained with, or train the run again."
        raise WeightsError(list_findings(headline, findings, remedy))
