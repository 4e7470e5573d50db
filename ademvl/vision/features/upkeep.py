"""Looks after whole feature caches: what lies there, whether it is whole, what may go.

Works from the files alone: neither a tower nor torch is needed.
"""

import logging
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ademvl.errors import CacheError, DataError
from ademvl.storage.byte_sizes import format_bytes
from ademvl.storage.files import read_json
from ademvl.storage.locks import lock_file, try_lock_file
from ademvl.vision.features.namespace import (
    CLAIM_SUFFIX,
    NAMESPACE_FILE,
    USE_LOCK,
    FeatureKey,
    as_cache_errors,
)
from ademvl.vision.features.shards import (
    SUFFIX,
    DamagedShardError,
    Signature,
    check_bytes,
    read_header,
    signature,
)

_log = logging.getLogger(__name__)

_DAY_SECONDS = 86400
_REMOVED_PREFIX = ".removed-"


@dataclass(frozen=True)
class NamespaceInfo:
    """One namespace as `ademvl cache ls` shows it.

    Attributes:
        folder: of the namespace, named by a checksum of `key`.
        key: what its features depend on.
        num_images, num_shards, size_bytes: what it holds.
        unused_days: days since a job last opened it.
        is_used: a running job reads or writes it.
    """

    folder: Path
    key: FeatureKey
    num_images: int
    num_shards: int
    size_bytes: int
    unused_days: float
    is_used: bool


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what it should be."""

    path: Path
    problem: str


@dataclass
class GarbageReport:
    """What `gc` removed, or would remove, and what it left because running jobs use it."""

    removed: list[Path] = field(default_factory=list)
    in_use: list[Path] = field(default_factory=list)
    freed_bytes: int = 0


def list_namespaces(root: Path) -> list[NamespaceInfo]:
    """Describe all namespaces of a cache, by name; unreadable ones are left to `verify`."""
    infos = []
    for folder in _folders(root):
        try:
            key = _read_key(folder)
        except DataError as error:
            _log.warning("%s", error)
            continue
        num_images, num_shards, size_bytes = 0, 0, 0
        for path in _shards(folder):
            try:
                num_images += len(read_header(path, key.digest, key.precision).images)
                size_bytes += path.stat().st_size
            except (DamagedShardError, FileNotFoundError):
                continue
            num_shards += 1
        infos.append(
            NamespaceInfo(
                folder, key, num_images, num_shards, size_bytes, _unused_days(folder), _used(folder)
            )
        )
    return infos


def verify(root: Path) -> list[DamagedFile]:
    """Compare every shard with its checksum and every namespace with its description.

    Nothing is changed: the next job that needs a damaged shard rebuilds it.
    """
    findings = []
    for folder in _folders(root):
        try:
            key = _read_key(folder)
        except DataError as error:
            findings.append(DamagedFile(folder / NAMESPACE_FILE, str(error)))
            continue
        findings += [finding for finding, _ in _damaged(folder, key)]
    return findings


def gc(root: Path, *, older_than_days: float | None = None, dry_run: bool = False) -> GarbageReport:
    """Remove leftovers of killed jobs, damaged shards, and on request what nobody uses any more.

    A namespace that a running job reads or writes is left alone as a whole.

    Args:
        root: folder of the whole cache; one that is not there is clean.
        older_than_days: also remove namespaces that no job has opened for so long; None keeps all.
        dry_run: only say what would be removed.

    Raises:
        CacheError: files cannot be read or removed.
    """
    report = GarbageReport()
    with as_cache_errors(root):
        if root.is_dir():
            for leftover in sorted(root.glob(f"{_REMOVED_PREFIX}*")):
                _remove(leftover, report, dry_run=dry_run)
        for folder in _folders(root):
            damaged = [] if _is_expired(folder, older_than_days) else _examine(folder)
            use = try_lock_file(folder / USE_LOCK)
            if use is None:
                report.in_use.append(folder)
                continue
            with use:
                if _is_expired(folder, older_than_days):
                    _remove_namespace(folder, report, dry_run=dry_run)
                else:
                    _clean(folder, damaged, report, dry_run=dry_run)
    return report


def print_namespaces(root: Path) -> int:
    """Print the namespaces of a cache as a table; return the exit code."""
    infos = list_namespaces(root)
    for info in infos:
        state = "in use" if info.is_used else f"last opened {info.unused_days:.1f} days ago"
        print(f"{info.folder.name}  ({state})")
        size = format_bytes(info.size_bytes)
        print(f"  {info.num_images} images in {info.num_shards} shards, {size}")
        print(f"  tower          {info.key.tower}")
        print(f"  preprocessing  {info.key.preprocessing}")
        print(f"  features       {info.key.features}, {info.key.precision}")
    if not infos:
        print(f"{root}: no features")
    return 0


def print_findings(root: Path) -> int:
    """Print what `verify` finds; return the exit code, 1 where anything is damaged."""
    findings = verify(root)
    for finding in findings:
        print(f"{finding.path}: {finding.problem}")
    num_namespaces = len(list(_folders(root)))
    print(f"{root}: {num_namespaces} namespaces checked, {len(findings)} damaged files")
    if findings:
        print("The next job that needs a damaged shard rebuilds it; `ademvl cache gc` removes it.")
    return 1 if findings else 0


def print_garbage(root: Path, *, unused_days: float | None = None, dry_run: bool = False) -> int:
    """Run `gc` and print what it removed; return the exit code."""
    report = gc(root, older_than_days=unused_days, dry_run=dry_run)
    for path in report.removed:
        print(path)
    for folder in report.in_use:
        print(f"{folder}: left alone, a running job uses it")
    verb = "would free" if dry_run else "freed"
    print(f"{root}: {len(report.removed)} removed, {verb} {format_bytes(report.freed_bytes)}")
    return 0


def _examine(folder: Path) -> list[tuple[DamagedFile, Signature]]:
    """Find damaged shards while jobs may go on using the others."""
    with lock_file(folder / USE_LOCK, shared=True):
        try:
            return _damaged(folder, _read_key(folder))
        except DataError as error:
            _log.warning("%s", error)
            return []


def _clean(
    folder: Path,
    damaged: list[tuple[DamagedFile, Signature]],
    report: GarbageReport,
    *,
    dry_run: bool,
) -> None:
    for finding, seen in damaged:
        if finding.path.exists() and signature(finding.path) == seen:
            _remove(finding.path, report, dry_run=dry_run)
    leftovers = [*folder.glob(".*.tmp"), *folder.glob("shards/.*.tmp")]
    # Claims lay beside the shards before.
    leftovers += [*folder.glob(f"claims/*{CLAIM_SUFFIX}"), *folder.glob(f"shards/*{CLAIM_SUFFIX}")]
    leftovers += folder.glob("quarantine/*")
    for path in sorted(leftovers):
        _remove(path, report, dry_run=dry_run)


def _remove_namespace(folder: Path, report: GarbageReport, *, dry_run: bool) -> None:
    """Remove a namespace in one step for all others: a killed removal leaves no half of it."""
    report.removed.append(folder)
    report.freed_bytes += _size(folder)
    if not dry_run:
        doomed = folder.with_name(f"{_REMOVED_PREFIX}{uuid.uuid4().hex}")
        folder.replace(doomed)
        shutil.rmtree(doomed)


def _remove(path: Path, report: GarbageReport, *, dry_run: bool) -> None:
    report.removed.append(path)
    report.freed_bytes += _size(path)
    if dry_run:
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _damaged(folder: Path, key: FeatureKey) -> list[tuple[DamagedFile, Signature]]:
    found = []
    for path in _shards(folder):
        try:
            seen = signature(path)
            try:
                check_bytes(path)
                read_header(path, key.digest, key.precision)
            except DamagedShardError as error:
                found.append((DamagedFile(path, str(error)), seen))
        except FileNotFoundError:
            continue
    return found


def _folders(root: Path) -> Iterator[Path]:
    """Folders of namespaces, by name; anything else in the cache's folder is not its own."""
    if not root.exists():
        return
    if not root.is_dir():
        raise CacheError(f"{root}: not a folder, so not a feature cache")
    for folder in sorted(root.iterdir()):
        if (folder / NAMESPACE_FILE).is_file():
            yield folder


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"shards/*{SUFFIX}"))


def _read_key(folder: Path) -> FeatureKey:
    path = folder / NAMESPACE_FILE
    remedy = "The next job that uses the namespace writes it anew."
    content = read_json(path, remedy=remedy)
    try:
        key = FeatureKey(
            content["preprocessing"], content["tower"], content["precision"], content["features"]
        )
        if key.folder_name == folder.name:
            return key
    except (KeyError, TypeError, AttributeError):
        pass
    raise DataError(f"{path}: does not describe features of {folder.name}. {remedy}")


def _used(folder: Path) -> bool:
    lock = try_lock_file(folder / USE_LOCK)
    if lock is None:
        return True
    lock.release()
    return False


def _unused_days(folder: Path) -> float:
    lock = folder / USE_LOCK
    return (time.time() - (lock if lock.exists() else folder).stat().st_mtime) / _DAY_SECONDS


def _is_expired(folder: Path, older_than_days: float | None) -> bool:
    return older_than_days is not None and _unused_days(folder) > older_than_days


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
