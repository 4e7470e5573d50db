"""How fast a run answered, beside its predictions: a measurement, so no part of what they are.

An evaluation that was killed and went on leaves the speed of its last part.
"""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ademvl.errors import DataError
from ademvl.runs.run_state import REMEDY, read_object
from ademvl.storage.files import write_json


@dataclass(frozen=True)
class AnswerSpeed:
    """What one process answered.

    Attributes:
        items: questions or images.
        seconds: that the models took for them, wall time; loading them is left out.
    """

    items: int
    seconds: float


def speed_file(predictions: Path) -> Path:
    """Return the file with the speed of a file of predictions."""
    return predictions.with_suffix(".speed.json")


def write_speed(path: Path, speed: AnswerSpeed) -> None:
    """Write a speed."""
    write_json(path, asdict(speed))


def read_speed(path: Path) -> AnswerSpeed | None:
    """Read a speed; None where none was measured.

    Raises:
        DataError: malformed.
    """
    raw = read_object(path)
    if not raw:
        return None
    items, seconds = raw.get("items"), raw.get("seconds")
    if not (isinstance(items, int) and isinstance(seconds, int | float)):
        raise DataError(f"{path}: expected numbers of items and of seconds. {REMEDY}")
    if not (items > 0 and math.isfinite(seconds) and seconds > 0):
        raise DataError(f"{path}: expected items and seconds above 0. {REMEDY}")
    return AnswerSpeed(items, float(seconds))
