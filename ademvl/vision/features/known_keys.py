"""Remembers the keys of features beside the cache, so that a full one is used without its tower.

A key holds the fingerprint of the tower's weights as they are in memory, which takes seconds to
find out. It follows from the files of weights, some settings and the code: under a checksum of
these it is kept. Weights without a checksum of the whole file are always loaded.
"""

import contextlib
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ademvl.config.run import RunSettings
from ademvl.errors import DataError, DiskFullError
from ademvl.runs.identity import weight_checksums
from ademvl.runs.provenance import package_versions, sources_sha256
from ademvl.storage.files import dump_json, read_json, write_json
from ademvl.vision.features.namespace import FeatureKey

KEYS_FOLDER = "keys"
_LIBRARIES = ("torch", "open_clip_torch", "safetensors")
_POOLED = {"tower_cls": "pooled"}


def known_key(run: RunSettings) -> FeatureKey | None:
    """Return the key of a run's features where it has been remembered; None otherwise."""
    origin = _origin(run)
    if origin is None:
        return None
    try:
        found = read_json(_path(run, origin), remedy="It is written anew.")
        key = FeatureKey(**found["key"])
    except (DataError, KeyError, TypeError):
        return None
    return key if found == _record(origin, key) else None


def remember_key(run: RunSettings, key: FeatureKey) -> None:
    """Keep the key that was found for a run's features, if its cache can be written."""
    origin = _origin(run)
    if origin is not None:
        with contextlib.suppress(OSError, DiskFullError):
            write_json(_path(run, origin), _record(origin, key))


def _origin(run: RunSettings) -> dict[str, Any] | None:
    """Return all that a key follows from; None where a checksum does not tell the weights."""
    checksums = weight_checksums(run.backbones)
    tower = {name: text for name, text in checksums.items() if name.startswith("tower")}
    files = {name: text for name, text in tower.items() if name != "tower"}
    if not files or not all(text.startswith("sha256:") for text in files.values()):
        return None
    versions = package_versions()
    return {
        "tower": tower if run.backbones.tower_cls == "token" else tower | _POOLED,
        "weights_name": Path(run.backbones.tower_weights).name,
        "task": run.task,
        "precision": run.features.precision,
        "normalization": run.features.normalization,
        "tower_states": asdict(run.method.tower_states),
        "sources_sha256": sources_sha256(),
        "packages": {name: versions.get(name) for name in _LIBRARIES},
    }


def _record(origin: dict[str, Any], key: FeatureKey) -> dict[str, Any]:
    parts = {"key": asdict(key), "origin": json.loads(dump_json(origin))}
    return {**parts, "seal": _checksum(parts)}


def _path(run: RunSettings, origin: dict[str, Any]) -> Path:
    return Path(run.features.cache_dir) / KEYS_FOLDER / f"{_checksum(origin)[:16]}.json"


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(dump_json(content).encode()).hexdigest()
