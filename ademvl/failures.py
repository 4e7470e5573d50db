"""A note in a run's directory that its last step failed, and why, so that tables can say so.

A process that is killed leaves no note: its run counts as unfinished.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ademvl.errors import AdemvlError, DataError
from ademvl.files import read_json, write_json

FAILURE_FILE = "failure.json"
_REMEDY = "Delete the file and run the same command again."


@dataclass(frozen=True)
class Failure:
    """What failed: the verb, and the first line of its message."""

    step: str
    message: str


@contextlib.contextmanager
def noted_failure(run_dir: Path, step: str) -> Iterator[None]:
    """Note in `run_dir` when the block ends with an error; the note of an earlier try goes.

    Args:
        run_dir: directory of a run and seed; nothing is written where it does not exist.
        step: the verb.
    """
    path = run_dir / FAILURE_FILE
    path.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        message = str(error).strip() or type(error).__name__
        # The error itself matters more than the note, which a full disk may not take.
        with contextlib.suppress(OSError, AdemvlError):
            if run_dir.is_dir():
                failed = datetime.now(UTC).isoformat(timespec="seconds")
                write_json(path, {"step": step, "message": message, "failed": failed})
        raise


def read_failure(run_dir: Path) -> Failure | None:
    """Return what failed last in a run's directory; None where nothing did.

    Raises:
        DataError: the note is malformed.
    """
    path = run_dir / FAILURE_FILE
    if not path.is_file():
        return None
    raw = read_json(path, remedy=_REMEDY)
    if not isinstance(raw, Mapping) or not {"step", "message"} <= raw.keys():
        raise DataError(f"{path}: expected step and message. {_REMEDY}")
    return Failure(str(raw["step"]), str(raw["message"]).splitlines()[0])
