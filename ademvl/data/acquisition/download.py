"""Files of a source, each from the first of its addresses that gives the right bytes.

A file stands under its final name only after it was verified. Two processes never fetch the same
file: the second one waits, and then finds it there.
"""

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ademvl.data.acquisition.checks import check_file
from ademvl.data.acquisition.drive import fetch_from_drive, is_drive_url
from ademvl.data.acquisition.part_file import PartFile, write_error
from ademvl.data.acquisition.python_package import fetch_from_index, is_package_url
from ademvl.data.acquisition.records import Records
from ademvl.data.acquisition.registry import SourceFile
from ademvl.data.acquisition.transfer import TransferError, Transfers, transfer
from ademvl.errors import DataError, list_findings
from ademvl.storage.locks import lock_file

_log = logging.getLogger(__name__)

_TRIES_PER_ADDRESS = 2  # where all bytes came, and were not the right ones
PLACED_BY_HAND = "placed by hand"


@dataclass(frozen=True)
class FileTarget:
    """A file of the registry and the folder it belongs in."""

    file: SourceFile
    folder: Path

    @property
    def path(self) -> Path:
        """Final place of the file."""
        return self.folder / self.file.name

    @property
    def part_path(self) -> Path:
        """Where the file grows before it is verified."""
        return self.folder / f"{self.file.name}.part"

    @property
    def aside(self) -> Path:
        """Where gdown and pip keep what they fetch."""
        return self.folder / f".{self.file.name}.aside"


def fetch_file(
    target: FileTarget, transfers: Transfers, *, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Make sure that a file is there and verified.

    Args:
        target: the file and its folder.
        transfers: retries, time limits, and when to stop.
        on_bytes: told how many bytes came, negative when some are dropped.

    Raises:
        DataError: no address gave the right file (names each with its reason), the disk is full,
            or a wrong file stands in its place.
        Stopped: `transfers.stop` was set.
    """
    target.folder.mkdir(parents=True, exist_ok=True)
    with lock_file(target.folder / f".{target.file.name}.lock"):
        if is_ready(target):
            return
        reasons = []
        for url in target.file.urls:
            for _ in range(_TRIES_PER_ADDRESS):
                try:
                    _fetch_from(url, target, transfers, on_bytes)
                    return
                except TransferError as error:
                    reasons.append(f"{url}: {error}")
                    break
                except _WrongBytes as error:
                    reasons.append(f"{url}: {error}")
            _log.warning("%s", reasons[-1])
        remedy = (
            "Try again later, or get the file another way and put it there: it is then verified "
            "as a download is."
        )
        if Records(target.folder).of(target.file.name) and not target.file.has_checksum:
            remedy += f" {_forget(target)}"
        raise DataError(
            list_findings(f"{target.path}: no address gave the right file", reasons, remedy)
        )


class _WrongBytes(Exception):
    """All bytes came, but they are not the file."""


def is_ready(target: FileTarget) -> bool:
    """Say whether a file is there and verified; one that somebody put there is verified first.

    Raises:
        DataError: a file is there, but not the right one.
    """
    records = Records(target.folder)
    if records.is_verified(target.file.name):
        return True
    if not target.path.is_file():
        return False
    _log.info("%s: verifying the file that is there", target.path)
    record = records.of(target.file.name)
    try:
        sha256 = check_file(
            target.path, target.file, recorded_sha256=record.sha256 if record else ""
        )
    except DataError as error:
        raise DataError(f"{error}. {_remedy(target, has_record=record is not None)}") from error
    records.add(target.file.name, sha256=sha256, url=record.url if record else PLACED_BY_HAND)
    return True


def _remedy(target: FileTarget, *, has_record: bool) -> str:
    remedy = "Move that file away and run the same command again to fetch it."
    if has_record and not target.file.has_checksum:
        remedy += f" {_forget(target)}"
    return remedy


def _forget(target: FileTarget) -> str:
    return (
        "Where its authors changed it and you want the new one, delete its entry in "
        f"{target.folder / 'recorded.json'}."
    )


def _fetch_from(
    url: str, target: FileTarget, transfers: Transfers, on_bytes: Callable[[int], None]
) -> None:
    records = Records(target.folder)
    record = records.of(target.file.name)
    recorded_sha256 = record.sha256 if record else ""
    if is_drive_url(url) or is_package_url(url):
        sha256 = _fetch_by_library(url, target, transfers, recorded_sha256)
        on_bytes(target.path.stat().st_size)
    else:
        sha256 = _fetch_http_file(url, target, transfers, recorded_sha256, on_bytes)
    records.add(target.file.name, sha256=sha256, url=url)


def _fetch_http_file(
    url: str,
    target: FileTarget,
    transfers: Transfers,
    recorded_sha256: str,
    on_bytes: Callable[[int], None],
) -> str:
    file = target.file
    has_checksum = file.has_checksum or bool(recorded_sha256)
    with PartFile(target.part_path, on_bytes) as part:
        transfer(url, part, transfers, expected_bytes=file.bytes, has_checksum=has_checksum)
        try:
            if part.origin.md5 and part.md5 != part.origin.md5:
                raise DataError(f"md5 is {part.md5}, the server says {part.origin.md5}")
            sha256 = check_file(
                target.part_path,
                file,
                recorded_sha256=recorded_sha256,
                hashes={"md5": part.md5, "sha256": part.sha256},
            )
        except DataError as error:
            part.discard()
            raise _WrongBytes(f"all bytes came, but {_without_path(error, target)}") from error
        part.flush_to_disk()
    part.move_to(target.path)
    return sha256


def _fetch_by_library(
    url: str, target: FileTarget, transfers: Transfers, recorded_sha256: str
) -> str:
    arrived = target.aside / target.file.name
    try:
        if is_package_url(url):
            fetch_from_index(url, arrived)
        else:
            fetch_from_drive(url, arrived, transfers)
        sha256 = check_file(arrived, target.file, recorded_sha256=recorded_sha256)
        with arrived.open("rb+") as stream:
            os.fsync(stream.fileno())
    except OSError as error:
        raise write_error(arrived, error, then="what has arrived is kept") from error
    except DataError as error:
        arrived.unlink(missing_ok=True)
        raise _WrongBytes(f"all bytes came, but {_without_path(error, target)}") from error
    arrived.replace(target.path)
    shutil.rmtree(target.aside, ignore_errors=True)
    return sha256


def _without_path(error: DataError, target: FileTarget) -> str:
    text = str(error)
    for path in (target.part_path, target.aside / target.file.name):
        text = text.removeprefix(f"{path}: ")
    return text
