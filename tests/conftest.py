"""Shared fixtures: where reference data lies, and skipping with a reason where it is absent."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let golden texts be written anew, to be reviewed as a diff."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden texts")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of reference data that is not part of the project."""
    folder = Path(os.environ.get("ADEMVL_SHARED", PROJECT_ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found: {folder} (set ADEMVL_SHARED)")
    return folder


@pytest.fixture(scope="session")
def golden_dir(shared_dir: Path) -> Path:
    """Tensors computed by the paper's reference implementation."""
    return shared_dir / "golden"


@pytest.fixture(scope="session")
def real_dir(shared_dir: Path) -> Path:
    """Pieces of the real data sets."""
    return shared_dir / "real"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system can be mounted by root only")
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
