"""Checksums of data and weight files, sampled where a file is large."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ademvl.storage.files import sha256_file

WHOLE_CHECKSUM_BYTES = 256 << 20
_SAMPLE_BYTES = 1 << 20


def checksum_file(path: Path) -> str:
    """Return the checksum of a data or weight file, quickly.

    `sha256:<hex>` of the whole file; above 256 MiB `sampled-sha256:<hex>` of its size, first and
    last MiB, because weights of many gigabytes are read at every start.
    """
    size = path.stat().st_size
    if size <= WHOLE_CHECKSUM_BYTES:
        return f"sha256:{sha256_file(path)}"
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_SAMPLE_BYTES))
        stream.seek(-_SAMPLE_BYTES, os.SEEK_END)
        digest.update(stream.read(_SAMPLE_BYTES))
    return f"sampled-sha256:{digest.hexdigest()}"


def checksum_files(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return checksums by path relative to `root`."""
    return {path.relative_to(root).as_posix(): checksum_file(path) for path in sorted(paths)}
