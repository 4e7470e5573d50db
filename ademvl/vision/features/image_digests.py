"""Identity of images: the SHA-256 of a file's bytes, whatever its name or place."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ademvl.data.acquisition.zip_images import image_stamp, read_image_bytes
from ademvl.errors import DataError, list_findings
from ademvl.storage.known_checksums import KnownChecksums, Stamp
from ademvl.vision.features.image_progress import ImageProgress
from ademvl.vision.features.process_group import ProcessGroup

_CHUNK = 64
THREADS = min(8, len(os.sched_getaffinity(0)))


def digest_images(
    paths: Sequence[Path],
    *,
    progress: bool,
    known: KnownChecksums | None = None,
    processes: ProcessGroup | None = None,
) -> dict[Path, str]:
    """Return the hex SHA-256 of each file, each path once, in the order given.

    Args:
        paths: image files; a path may occur many times.
        progress: show how far it is.
        known: of files that were read before; what is read here is added to it.
        processes: those that all make this call with the same paths, of which each reads a share.

    Raises:
        DataError: files that are missing or cannot be read, all listed at once.
    """
    if known is not None:
        return _digest_unknown(paths, known, progress=progress)
    unique = list(dict.fromkeys(paths))
    if processes is None:
        digests, findings = _digest(unique, progress=progress)
    else:
        digests, findings = dict.fromkeys(unique, ""), []
        own = _digest(unique[processes.rank :: processes.world_size], progress=progress)
        for found, problems in processes.gather(own):
            digests |= found
            findings += problems
    if findings:
        raise DataError(
            list_findings(
                "image files cannot be read", findings, "Get the data set's images again."
            )
        )
    return digests


def _digest(paths: Sequence[Path], *, progress: bool) -> tuple[dict[Path, str], list[str]]:
    """Return the checksums of files, and what is wrong with those that cannot be read."""
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    digests: dict[Path, str] = {}
    findings: list[str] = []
    with (
        ImageProgress(len(paths), "check images", shown=progress) as shown,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for found, problems in pool.map(_digest_chunk, chunks):
            digests.update(found)
            findings += problems
            shown.advance(len(found) + len(problems))
    return digests, findings


def _digest_unknown(
    paths: Sequence[Path], known: KnownChecksums, *, progress: bool
) -> dict[Path, str]:
    """Read only files that have changed since they were read before."""
    found: dict[Path, str | None] = {}
    stamps: dict[Path, Stamp] = {}
    for path in dict.fromkeys(paths):
        try:
            stamps[path] = image_stamp(path)
        except OSError:
            found[path] = None  # is told with all others that cannot be read
        else:
            found[path] = known.find(path, stamps[path])
    read = digest_images([path for path, digest in found.items() if not digest], progress=progress)
    for path, digest in read.items():
        known.add(path, stamps[path], digest)
    return {path: digest or read[path] for path, digest in found.items()}


def _digest_chunk(paths: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    digests: dict[Path, str] = {}
    findings = []
    for path in paths:
        try:
            digests[path] = hashlib.sha256(read_image_bytes(path)).hexdigest()
        except OSError as error:
            findings.append(f"{path}: {error.strerror}")
    return digests, findings
