"""Repositories of the Hugging Face hub, through huggingface_hub, which resumes by itself."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.data.acquisition.checks import git_blob_id
from ademvl.data.acquisition.part_file import write_error
from ademvl.data.acquisition.records import Records
from ademvl.data.acquisition.registry import HubRepository
from ademvl.errors import DataError, list_findings
from ademvl.storage.files import read_json, sha256_file, write_json
from ademvl.storage.locks import lock_file

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_log = logging.getLogger(__name__)

_LIST = "hub.json"
_REMEDY = "Delete it: the repository is then looked at anew."
_OTHERS = (
    "Name another repository or a folder under the study's key `backbones`, set HF_TOKEN where "
    "access was granted to you, or try again later."
)


@dataclass(frozen=True)
class _Listing:
    """What was fetched: repository, its commit, and its files that are wanted."""

    repository: str
    revision: str
    commit: str
    files: list[str]


def is_fetched(folder: Path, hub: HubRepository) -> bool:
    """Say whether a repository's files are there, unchanged since they were verified."""
    path = folder / _LIST
    if not path.is_file():
        return False
    try:
        listing = _Listing(**read_json(path, remedy=_REMEDY))
    except TypeError:
        return False
    records = Records(folder)
    is_same = (listing.repository, listing.revision) == (hub.repository, hub.revision)
    return is_same and all(records.is_verified(name) for name in listing.files)


def fetched_bytes(folder: Path) -> int:
    """Return how many bytes of a repository have arrived, whole or in part."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fetch_repository(
    folder: Path, hub: HubRepository, *, connections: int, remedy: str = _OTHERS
) -> None:
    """Fetch a repository's wanted files into `folder` and verify them.

    Each is checked against what the hub says of it (SHA-256 of large files, git blob id of small
    ones) and against the checksums of the registry. HF_ENDPOINT and HF_TOKEN are honoured.

    Args:
        hub: what is wanted.
        connections: files at once.
        remedy: what to do where the hub does not give it.

    Raises:
        DataError: the hub does not give the repository (no such one, access not granted, no
            network), a file is not the right one, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_file(folder / ".hub.lock"):
        if is_fetched(folder, hub):
            return
        files, commit = _download(folder, hub, connections=connections, remedy=remedy)
        _verify(folder, hub, files)
        names = sorted(file.rfilename for file in files)
        listing = _Listing(hub.repository, hub.revision, commit, names)
        write_json(folder / _LIST, listing.__dict__)


def _download(
    folder: Path, hub: HubRepository, *, connections: int, remedy: str
) -> tuple[list["RepoSibling"], str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError
    from huggingface_hub.utils import disable_progress_bars, filter_repo_objects

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    try:
        info = api.model_info(hub.repository, revision=hub.revision, files_metadata=True)
        commit = info.sha or hub.revision
        files = list(
            filter_repo_objects(
                info.siblings or [],
                allow_patterns=list(hub.patterns),
                key=lambda file: file.rfilename,
            )
        )
        if not files:
            raise DataError(f"{hub.repository}: has no file that matches {list(hub.patterns)}")
        _log.info("fetching %s at %s into %s", hub.repository, commit, folder)
        api.snapshot_download(
            hub.repository,
            revision=commit,
            local_dir=folder,
            allow_patterns=[file.rfilename for file in files],
            max_workers=connections,
        )
    except (HTTPError, ValueError, RuntimeError) as error:
        raise _hub_error(hub, error, remedy) from error
    except OSError as error:
        if error.errno is None:
            raise _hub_error(hub, error, remedy) from error
        raise write_error(folder / _LIST, error, then="what has arrived is kept") from error
    return files, commit


def _hub_error(hub: HubRepository, error: Exception, remedy: str) -> DataError:
    text = " ".join(str(error).split())
    return DataError(f"{hub.repository}: the Hugging Face hub does not give it: {text}. {remedy}")


def _verify(folder: Path, hub: HubRepository, files: list["RepoSibling"]) -> None:
    records = Records(folder)
    findings = []
    for file in files:
        if records.is_verified(file.rfilename):
            continue
        path = folder / file.rfilename
        sha256 = sha256_file(path)
        if finding := _difference(path, sha256, file, hub):
            findings.append(f"{path}: {finding}")
            path.unlink()
        else:
            url = f"{hub.repository}/{file.rfilename}"
            records.add(file.rfilename, sha256=sha256, url=url)
    if findings:
        remedy = "They were removed; run the same command again to fetch them anew."
        raise DataError(list_findings(f"{hub.repository}: wrong files", findings, remedy))


def _difference(path: Path, sha256: str, file: "RepoSibling", hub: HubRepository) -> str:
    expected = hub.sha256.get(file.rfilename)
    if expected and sha256 != expected:
        return f"sha256 is {sha256}, expected {expected}"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size} bytes, the hub says {file.size}"
    if file.lfs is not None:
        if sha256 != file.lfs.sha256:
            return f"sha256 is {sha256}, the hub says {file.lfs.sha256}"
    elif file.blob_id and (blob := git_blob_id(path)) != file.blob_id:
        return f"git blob id is {blob}, the hub says {file.blob_id}"
    return ""
