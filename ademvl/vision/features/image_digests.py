"""Identity of images: the SHA-256 of a file's bytes, whatever its name or place."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ademvl.data.acquisition.zip_images import read_image_bytes
from ademvl.errors import DataError, list_findings
from ademvl.vision.features.image_progress import image_progress

_CHUNK = 64
THREADS = min(8, len(os.sched_getaffinity(0)))


def digest_images(paths: Sequence[Path], *, progress: bool) -> dict[Path, str]:
    """Return the hex SHA-256 of each file, each path once, in the order given.

    Args:
        paths: image files; a path may occur many times.
        progress: show how far it is.

    Raises:
        DataError: files that are missing or cannot be read, all listed at once.
    """
    unique = list(dict.fromkeys(paths))
    chunks = [unique[start : start + _CHUNK] for start in range(0, len(unique), _CHUNK)]
    digests: dict[Path, str] = {}
    findings: list[str] = []
    with (
        image_progress(len(unique), "check images", shown=progress) as advance,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        for found, problems in pool.map(_digest_chunk, chunks):
            digests.update(found)
            findings += problems
            advance(len(found) + len(problems))
    if findings:
        raise DataError(
            list_findings(
                "image files cannot be read", findings, "Get the data set's images again."
            )
        )
    return digests


def _digest_chunk(paths: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    digests: dict[Path, str] = {}
    findings = []
    for path in paths:
        try:
            digests[path] = hashlib.sha256(read_image_bytes(path)).hexdigest()
        except OSError as error:
            findings.append(f"{path}: {error.strerror}")
    return digests, findings
