"""Whether the scores in a run's folder are those of the study's settings, and complete."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ademvl.config.run import ADAPTER_KEYWORDS, RunSettings
from ademvl.config.settings_files import read_copied_run
from ademvl.errors import DataError
from ademvl.runs.adapter_folder import DESCRIPTION_FILE
from ademvl.runs.identity import (
    START,
    evaluation_settings,
    identity_sha256,
    recorded_identity,
    training_settings,
    without_places,
)
from ademvl.runs.metrics import COLUMNS as METRICS_COLUMNS
from ademvl.runs.run_files import RunFiles
from ademvl.runs.versions import RESULT_VERSIONS
from ademvl.storage.files import read_json

REMEDY = "Delete the file and run the same command again."

State = Literal["finished", "failed", "stale", "unfinished", "not run"]


def state_of(
    run_dir: Path,
    settings: RunSettings,
    header: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> State:
    """Tell what the files say, without regard to failures.

    Args:
        settings: that the study has now.
        header: of the scores; empty where there are none.
        provenance: of the training; empty while it is at work.
    """
    files = RunFiles(run_dir)
    if not header and not files.metrics.is_file():
        return "not run"
    if _was_begun_with_others(run_dir, settings) or _has_other_columns(files.metrics):
        return "stale"
    identity = recorded_identity(settings, provenance.get("checksums") or {})
    if provenance and provenance.get("identity_sha256") != identity_sha256(identity):
        return "stale"
    if provenance and _started_from_other(settings, provenance):
        return "stale"
    adapter = present_adapter(run_dir, settings)
    if not (provenance and adapter) or header.get("adapter_sha256") != adapter:
        return "unfinished"
    asked = without_places(evaluation_settings(settings), header.get("weights") or {})
    is_current = header.get("version") == RESULT_VERSIONS["evaluate"] and (
        header.get("settings") == asked
    )
    return "finished" if is_current else "stale"


def present_adapter(run_dir: Path, settings: RunSettings) -> str:
    """Return the checksum of the adapter that a run has now, or takes; empty without any."""
    is_taken = settings.adapter not in ADAPTER_KEYWORDS
    files = RunFiles(run_dir)
    owner = files.of_run(settings.adapter) if is_taken else files
    return str(read_object(owner.adapter_json).get("sha256", ""))


def _started_from_other(settings: RunSettings, provenance: Mapping[str, Any]) -> bool:
    """Tell whether the adapter that a run starts from is another one now; it may be deleted."""
    recorded = (provenance.get("checksums") or {}).get(f"weights/{START}", "")
    if not settings.start_from:
        return bool(recorded)
    present = read_object(Path(settings.start_from) / DESCRIPTION_FILE).get("sha256")
    return present is not None and recorded != f"sha256:{present}"


def _was_begun_with_others(run_dir: Path, settings: RunSettings) -> bool:
    """Tell whether a training of other settings is or was at work; run.yaml may be deleted."""
    if not RunFiles(run_dir).settings.is_file():
        return False
    return training_settings(read_copied_run(run_dir)) != training_settings(settings)


def _has_other_columns(metrics: Path) -> bool:
    """Tell whether a training of another version, with other columns, is or was at work."""
    if not metrics.is_file():
        return False
    with metrics.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().rstrip("\r\n") != ",".join(METRICS_COLUMNS)


def read_object(path: Path) -> Mapping[str, Any]:
    """Read a file of one JSON object; empty where there is none.

    Raises:
        DataError: other content, a folder, or a link to nowhere.
    """
    if not (path.is_file() or path.is_dir() or path.is_symlink()):
        return {}
    raw = read_json(path, remedy=REMEDY)
    if not isinstance(raw, dict):
        raise DataError(f"{path}: expected an object, found {type(raw).__name__}. {REMEDY}")
    return raw
