"""Whether a file that arrived is the right one: size, checksums, and whether it holds together."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ademvl.data.acquisition.registry import SourceFile
from ademvl.data.acquisition.zip_entries import ZipArchive
from ademvl.errors import DataError
from ademvl.storage.files import sha256_file
from ademvl.storage.stand_ins import describe_stand_in_at

_CHUNK_BYTES = 1 << 20
_START_BYTES = 512


def git_blob_id(path: Path) -> str:
    """Return the id that git gives a file of this content: SHA-1 over a header and its bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def md5_file(path: Path) -> str:
    """Return the hex MD5 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_file(
    path: Path,
    file: SourceFile,
    *,
    recorded_sha256: str = "",
    hashes: Mapping[str, str] | None = None,
) -> str:
    """Check a file that arrived; return its SHA-256.

    Without any checksum to compare, the file must at least hold together: archives by the checksums
    inside, JSON by its syntax.

    Args:
        path: the file, complete.
        file: what the registry says of it.
        recorded_sha256: of the first verified download, empty where there was none.
        hashes: `md5` and `sha256` where they are known already, so that nothing is read again.

    Raises:
        DataError: it is not the right file; says what differs.
    """
    if what := describe_stand_in_at(path):
        raise DataError(f"{path}: {what}")
    found = dict(hashes) if hashes else {"sha256": sha256_file(path)}
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        raise DataError(f"{path}: has {size} bytes, expected {file.bytes}")
    expected_sha256 = file.sha256 or recorded_sha256
    if expected_sha256 and found["sha256"] != expected_sha256:
        first = "" if file.sha256 else " (recorded at the first download)"
        raise _differs(path, "sha256", found["sha256"], f"{expected_sha256}{first}")
    if file.md5 and (md5 := found.get("md5") or md5_file(path)) != file.md5:
        raise _differs(path, "md5", md5, file.md5)
    if file.git_blob and (blob := git_blob_id(path)) != file.git_blob:
        raise _differs(path, "git blob id", blob, file.git_blob)
    if not file.has_checksum and not recorded_sha256:
        _check_holds_together(path, file)
    return found["sha256"]


def _differs(path: Path, kind: str, found: str, expected: str) -> DataError:
    return DataError(f"{path}: {kind} is {found}, expected {expected}")


def _check_holds_together(path: Path, file: SourceFile) -> None:
    with path.open("rb") as stream:
        start = stream.read(_START_BYTES)
    if not start:
        raise DataError(f"{path}: is empty")
    if file.is_archive:
        with ZipArchive(path) as archive:
            for entry in archive.entries.values():
                for _ in archive.chunks(entry):
                    pass
    elif file.name.endswith(".json"):
        try:
            with path.open("rb") as stream:
                json.load(stream)
        except ValueError as error:
            raise DataError(f"{path}: is no JSON ({error})") from error
    elif file.name.endswith((".pt", ".pth")):
        _check_torch_file(path, start)


def _check_torch_file(path: Path, start: bytes) -> None:
    """Check a file of torch by the checksums inside; those of before 2020 have none."""
    if start.startswith(b"\x80\x02"):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: is no file of torch ({error})") from error
    if damaged:
        raise DataError(f"{path}: is damaged in {damaged}")
