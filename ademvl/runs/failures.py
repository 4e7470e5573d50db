"""A note in a run's directory that its last step failed, and why, so that tables can say so.

A process that is killed leaves no note: its run counts as unfinished.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath

from ademvl.errors import AdemvlError, DataError
from ademvl.storage.files import read_json, write_json

FAILURE_FILE = "failure.json"
_REMEDY = "Delete the file and run the same command again."
_URL_OR_PATH = re.compile(
    r"https?://\S+|(?<![\w.<])(?:/|~[^\s/]*/|[A-Za-z]:[\\/]|\\\\\\\\)[^\s'\"()<>,;:]+"
)


@dataclass(frozen=True)
class Failure:
    """What failed: the verb, and the first line of its message, for everyone to read."""

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

    Of absolute paths in the message only the file's name is kept: tables are passed on, and folders
    tell whose machine it was. The note itself names them in full.

    Raises:
        DataError: the note is malformed.
    """
    path = run_dir / FAILURE_FILE
    if not path.is_file():
        return None
    raw = read_json(path, remedy=_REMEDY)
    if not isinstance(raw, Mapping) or not {"step", "message"} <= raw.keys():
        raise DataError(f"{path}: expected step and message. {_REMEDY}")
    message = str(raw["message"]).splitlines()[0]
    return Failure(str(raw["step"]), _URL_OR_PATH.sub(_without_folders, message))


def _without_folders(found: re.Match[str]) -> str:
    if found[0].startswith("http"):
        return found[0]
    name = PureWindowsPath(found[0]).name  # splits at both kinds of slashes
    return f"<path>/{name}" if PureWindowsPath(name).suffix else "<path>"
