"""Which training an adapter is of: said in adapter.json, so that another run's is noticed.

Adapters that were trained before this was said make no claim, nor do imported ones without a run.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ademvl.config.run import RunSettings
from ademvl.errors import DataError, WeightsError
from ademvl.runs.adapter_folder import DESCRIPTION_FILE, REMEDY, adapter_checksum
from ademvl.runs.identity import identity_sha256, recorded_identity
from ademvl.runs.run_files import RunFiles
from ademvl.storage.files import read_json

_KEY = "training"
_MOVE_BACK = (
    "Put the adapter back where it belongs, or remove this folder and train the run again with "
    "`ademvl train`."
)


@dataclass(frozen=True)
class AdapterTraining:
    """The training that an adapter comes from.

    Attributes:
        study, run, seed: under which it was trained, for people: names may change.
        identity_sha256: fingerprint of all that it depended on.
    """

    study: str
    run: str
    seed: int
    identity_sha256: str

    @classmethod
    def of(cls, run: RunSettings, identity: Mapping[str, Any]) -> "AdapterTraining":
        """Return the training of a run's present settings."""
        return cls(run.study, run.name, run.seed, identity_sha256(identity))

    def __str__(self) -> str:
        return f"{self.study}/{self.run}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Render what adapter.json gets."""
        return {_KEY: asdict(self)}


def read_training(folder: Path) -> AdapterTraining | None:
    """Return the training that an adapter folder names; None where it makes no claim.

    Raises:
        WeightsError: the claim is malformed.
        DataError: adapter.json is.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        return None
    description = read_json(path, remedy=REMEDY)
    found = description.get(_KEY) if isinstance(description, dict) else None
    if found is None:
        return None
    try:
        return AdapterTraining(**found)
    except TypeError as error:
        raise WeightsError(f"{path}: {_KEY} is malformed ({error}). {REMEDY}") from error


def other_training(folder: Path, provenance: Mapping[str, Any]) -> AdapterTraining | None:
    """Return the training of an adapter folder where it is not the one that provenance tells of.

    Args:
        provenance: content of provenance.json beside it; empty where there is none.

    Raises:
        WeightsError, DataError: see `read_training`.
    """
    training, expected = read_training(folder), provenance.get("identity_sha256")
    if training is None or expected in (None, training.identity_sha256):
        return None
    return training


def is_complete(files: RunFiles, identity: Mapping[str, Any]) -> bool:
    """Tell whether a training of this identity has finished in a run's directory."""
    if not (files.adapter_json.is_file() and files.metrics.is_file()):
        return False
    try:
        adapter_checksum(files.adapter)
        provenance = json.loads(files.provenance.read_text(encoding="utf-8"))
        is_own = other_training(files.adapter, provenance) is None
        return is_own and bool(provenance["identity_sha256"] == identity_sha256(identity))
    except (DataError, WeightsError, OSError, ValueError, KeyError, TypeError):
        return False


def check_training(folder: Path, run: RunSettings) -> None:
    """Make sure that the adapter in a run's directory is of the run's own training.

    Of data and weights, what provenance.json recorded counts: what they are now does not change
    which training it was.

    Raises:
        WeightsError: it is of another one; names both.
        DataError: provenance.json is malformed.
    """
    training, path = read_training(folder), RunFiles(folder.parent).provenance
    if training is None or not path.is_file():
        return
    provenance = read_json(path, remedy="Train the run again.")
    identity = recorded_identity(run, provenance.get("checksums") or {})
    identity["version"] = provenance.get("train_version", identity["version"])
    expected = AdapterTraining.of(run, identity)
    if training.identity_sha256 != expected.identity_sha256:
        raise WeightsError(_sentence(folder, training, expected))


def refuse_to_replace_other(
    folder: Path, run: RunSettings, identity: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Make sure that a training would not overwrite another run's adapter in its directory.

    Its own adapter, trained with other settings than now, is there to be replaced.

    Args:
        identity: of the training that is to be done.
        provenance: content of provenance.json; empty where there is none.

    Raises:
        WeightsError: the adapter there is of a training that provenance does not tell of.
    """
    training, expected = read_training(folder), AdapterTraining.of(run, identity)
    own = (expected.identity_sha256, provenance.get("identity_sha256"))
    if training is not None and training.identity_sha256 not in own:
        raise WeightsError(_sentence(folder, training, expected))


def _sentence(folder: Path, training: AdapterTraining, expected: AdapterTraining) -> str:
    named = str(training), str(expected)
    how = " with other settings" if len(set(named)) == 1 else ""
    return (
        f"{folder}: holds the adapter of another training: it is of {named[0]}{how}, the run here "
        f"is {named[1]}. {_MOVE_BACK}"
    )
