"""Copies of weights that a study uses in place: that they are there, and the right ones.

Copies of data sets are looked at by the layout, which knows their many forms.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from ademvl.config.downloads import META_PARAMS_FILE
from ademvl.config.study import Study
from ademvl.data.acquisition.registry import Registry, Source
from ademvl.errors import DataError, list_findings
from ademvl.storage.files import sha256_file
from ademvl.storage.stand_ins import describe_stand_in_at

_log = logging.getLogger(__name__)

_HF_FILE = "config.json"
_TOKENIZER = "tokenizer.model"


def missing_copies(study: Study) -> list[str]:
    """Describe copies of weights that are not there, or in no known layout; reads no weights."""
    return [
        f"backbones.{name}.existing: {finding}"
        for name, weights in study.settings.backbones.items()
        if weights.existing and (finding := fault_of_copy(Path(weights.existing)))
    ]


def fault_of_copy(path: Path) -> str:
    """Describe what a path of weights lacks, by the names of its files; empty where it is right."""
    if path.is_file():
        return ""
    if not path.is_dir():
        return f"{path} is neither a file nor a folder"
    if (path / _HF_FILE).is_file():
        if not any(path.glob("*.safetensors")) and not any(path.glob("pytorch_model*.bin")):
            return f"{path} has {_HF_FILE}, but no weights (*.safetensors)"
        return ""
    if (path / META_PARAMS_FILE).is_file():
        if not any(path.glob("consolidated.*.pth")):
            return f"{path} has {META_PARAMS_FILE}, but no consolidated.*.pth"
        return ""
    return (
        f"{path} has neither {_HF_FILE} (layout of transformers) nor {META_PARAMS_FILE} "
        "(layout of Meta's releases)"
    )


def verify_copies(study: Study, registry: Registry) -> None:
    """Compare copies of weights with the checksums that are known; reads them once.

    Raises:
        DataError: lists the files that differ.
    """
    findings = [
        finding
        for name, weights in study.settings.backbones.items()
        if weights.existing
        for finding in _differences(Path(weights.existing), registry.source(name))
    ]
    if findings:
        remedy = "Get these files again, or name another copy under the study's key backbones."
        raise DataError(list_findings("Weights that differ from their release", findings, remedy))


def _differences(path: Path, source: Source) -> Iterator[str]:
    for file, expected in _known_files(path, source):
        if what := describe_stand_in_at(file):
            yield f"{file}: {what}"
            continue
        _log.info("verifying %s", file)
        found = sha256_file(file)
        if found != expected:
            yield f"{file}: sha256 is {found}, expected {expected}"


def _known_files(path: Path, source: Source) -> Iterator[tuple[Path, str]]:
    """Yield the files of a copy whose SHA-256 is known."""
    if path.is_file():
        yield from ((path, f.sha256) for f in source.files if f.name == path.name and f.sha256)
        return
    is_meta = (path / META_PARAMS_FILE).is_file()
    for name, expected in (source.meta_sha256 if is_meta else source.hub.sha256).items():
        # Meta's releases keep the tokenizer beside the folders of the models.
        places = (path, path.parent) if is_meta and name == _TOKENIZER else (path,)
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is not None:
            yield found, expected
