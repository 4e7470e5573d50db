"""Files of a Python package index, through pip, which knows the user's own index and proxies."""

import subprocess
import sys
from pathlib import Path

from ademvl.data.acquisition.registry import PYTHON_PACKAGE
from ademvl.data.acquisition.transfer import TransferError


def is_package_url(url: str) -> bool:
    """Say whether a URL of the registry means a wheel of a package index."""
    return url.startswith(PYTHON_PACKAGE)


def fetch_from_index(url: str, path: Path) -> None:
    """Fetch a wheel to `path`; nothing in it is executed.

    Args:
        url: pip:<package>==<version>.
        path: where the wheel goes, under its own name.

    Raises:
        TransferError: pip does not give it, or is not there; says why.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    requirement = url.removeprefix(PYTHON_PACKAGE)
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(path.parent)]
    command = [sys.executable, "-m", "pip", "download", *options, requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not path.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"no {path.name} came"
        raise TransferError(f"pip does not give it: {reason}")
