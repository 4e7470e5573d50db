"""What other programs of a machine answer."""

import os
import subprocess
from collections.abc import Sequence


def answer_of(command: Sequence[str], *, timeout_seconds: float) -> str:
    """Return what a program prints, in English.

    Raises:
        OSError: it cannot be started.
        subprocess.SubprocessError: it fails, or does not answer in time.
    """
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        env={**os.environ, "LC_ALL": "C"},
        check=True,
    )
    return finished.stdout
