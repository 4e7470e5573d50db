"""The bundle as a file: written the same from the same results, read without trust.

Files are stored, not compressed, in the order of their names and with one date: what a compressor
makes of the same bytes differs between its releases. `manifest.json` lists every other file with
its SHA-256, the metadata too; a bundle with a file more, less, or other is refused by name.
"""

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ademvl.bundle.collection import Collection, Extras, collect
from ademvl.bundle.crate import CRATE_FILE, crate_metadata
from ademvl.config.settings_files import STUDY_FILE
from ademvl.data.acquisition.zip_entries import ZipArchive
from ademvl.errors import DataError, list_findings
from ademvl.storage.files import atomic_path, dump_json, parse_json

FORMAT = 1
MANIFEST_FILE = "manifest.json"
_DATE = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644 << 16
_UNIX = 3
_RUN = re.compile(r"\w+/seed\d+")
_REMEDY = "It is not the bundle that was made: get it again."


def write_bundle(
    results_dir: Path,
    output: Path,
    extras: Extras = Extras(),  # noqa: B008
    *,
    license_text: str = "",
) -> Collection:
    """Write a study's results as a zip file; see `collect` for what and what is refused.

    Args:
        results_dir: <results>/<study>, or the study.yaml in it.
        extras: what to add to scores, predictions, provenance, settings and tables.
        license_text: under which the results are passed on, a URL or words; empty for none.
    """
    collection = collect(results_dir, extras)
    files = dict(collection.files)
    checksums: dict[str, str | None] = {name: _sha256(files[name]) for name in sorted(files)}
    checksums[MANIFEST_FILE] = None  # it holds that of the metadata
    crate = crate_metadata(collection, checksums, license_text=license_text)
    files[CRATE_FILE] = crate.encode()
    files[MANIFEST_FILE] = dump_json(
        {
            "format": FORMAT,
            "study": collection.study,
            "runs": collection.states,
            "ended": collection.ended,
            "files": {
                name: {"sha256": _sha256(content), "bytes": len(content)}
                for name, content in files.items()
            },
        }
    ).encode()
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr, entry.create_system = _FILE_MODE, _UNIX
            archive.writestr(entry, content)
    return collection


def read_bundle(path: Path) -> Collection:
    """Read a bundle completely, checking every file.

    Raises:
        DataError: no zip archive, truncated, with names that leave its folder, or files that are
            damaged, missing or were not listed; names them.
    """
    with ZipArchive(path) as archive:
        manifest = _manifest(path, archive)
        findings, files = [], {}
        listed = manifest["files"]
        for name in archive.entries:
            if name not in listed and name != MANIFEST_FILE:
                findings.append(f"{name!r}: not listed in {MANIFEST_FILE}")
        for name, expected in listed.items():
            if name not in archive.entries:
                findings.append(f"{name!r}: missing")
                continue
            content = archive.read(name)
            if _sha256(content) != expected["sha256"]:
                findings.append(f"{name!r}: its SHA-256 is not that of {MANIFEST_FILE}")
            if name != CRATE_FILE:
                files[name] = content
    if findings:
        raise DataError(list_findings(f"{path}: refused", findings, _REMEDY))
    return Collection(manifest["study"], files, manifest["runs"], manifest["ended"])


def _manifest(path: Path, archive: ZipArchive) -> Mapping[str, Any]:
    if MANIFEST_FILE not in archive.entries:
        raise DataError(f"{path}: no bundle of `ademvl bundle`, it has no {MANIFEST_FILE}")
    try:
        text = archive.read(MANIFEST_FILE).decode("utf-8")
        manifest = parse_json(text, place=f"{path}: {MANIFEST_FILE} is malformed", remedy=_REMEDY)
        number = manifest["format"]
        is_whole = (
            isinstance(manifest["study"], str)
            and all(_RUN.fullmatch(run) for run in manifest["runs"])
            and isinstance(manifest["ended"], str)
            and all(isinstance(entry["sha256"], str) for entry in manifest["files"].values())
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: {MANIFEST_FILE} is malformed ({error!r}). {_REMEDY}") from error
    if number != FORMAT:
        raise DataError(
            f"{path}: a bundle of format {number}, this version of ademvl reads {FORMAT}; "
            "use the version that made it"
        )
    if not is_whole:
        raise DataError(f"{path}: {MANIFEST_FILE} is malformed. {_REMEDY}")
    return manifest


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def open_results(path: Path) -> Collection:
    """Read a bundle, or collect a results folder as a bundle would hold it.

    Scores that do not follow from the predictions are kept: `compare_results` says so of them.

    Raises:
        DataError: neither of the two, or damaged.
        SettingsError: the folder's study.yaml is wrong.
    """
    if path.is_dir():
        if not (path / STUDY_FILE).is_file():
            raise DataError(
                f"{path}: no results of a study (no study.yaml); name <results>/<study> or a bundle"
            )
        return collect(path, refuse_doubtful=False)
    if path.name == STUDY_FILE:
        return collect(path.parent, refuse_doubtful=False)
    return read_bundle(path)
