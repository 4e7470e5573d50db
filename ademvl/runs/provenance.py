"""Where a result comes from: code, packages, hardware, checksums, and what it cost."""

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import ademvl
from ademvl.machine.hardware import hardware
from ademvl.machine.usage import Usage
from ademvl.storage.files import write_json

PACKAGES = ("torch", "transformers", "open_clip_torch", "tokenizers", "sentencepiece",
            "safetensors", "numpy", "pillow", "snakemake")  # fmt: skip


def write_provenance(
    path: Path,
    *,
    usage: Usage,
    started: datetime,
    checksums: Mapping[str, str],
    details: Mapping[str, Any],
) -> None:
    """Write provenance.json.

    Args:
        usage: what the work cost, over all processes that took part.
        started: start of the last of them, with time zone.
        checksums: of data and weights that were read, by name.
        details: what the kind of work adds, e.g. counts of parameters; keys must be new.
    """
    content = {
        "code": {
            "version": ademvl.__version__,
            "commit": code_commit(),
            "sources_sha256": sources_sha256(),
        },
        "python": platform.python_version(),
        "packages": package_versions(),
        "hardware": hardware(),
        "checksums": dict(checksums),
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "usage": asdict(usage),
    }
    clash = content.keys() & details.keys()
    if clash:
        raise ValueError(f"details repeat {sorted(clash)}")
    write_json(path, {**content, **details})


@cache
def code_commit() -> str:
    """Return the Git commit of the package, with `-dirty` where files differ; empty outside Git."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    folder = Path(ademvl.__file__).parents[1]
    if not (folder / ".git").exists():
        return ""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def sources_sha256() -> str:
    """Return a fingerprint of the package's source code."""
    root = Path(ademvl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def package_versions() -> dict[str, str]:
    """Return the versions of the installed packages that results depend on."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
