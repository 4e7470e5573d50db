"""Score files: sealed when they are written, and checked against the predictions beside them.

The seal is a checksum of the scores and of the predictions that they were made from. It leaves out
what the same scores may have elsewhere in other words: the header, which the predictions' own seal
holds, and names of run and study.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ademvl.errors import DataError
from ademvl.evaluation.asked import Asked
from ademvl.evaluation.predictions import SEAL, is_sealed, read_header
from ademvl.storage.files import dump_json, sha256_file, write_json
from ademvl.tasks.base import Row

PREDICTIONS = "predictions_sha256"
SEALED_SINCE = 2
"""Result version of `evaluate` from which on scores have a seal."""
_NOT_SEALED = (SEAL, "header", "study", "run")
_DRAWN = ("ci_low", "ci_high")
_ROUNDING = 1e-6  # of numbers in percent: versions of scipy and numpy round differently


def write_scores(path: Path, scores: Mapping[str, object], predictions: Path) -> None:
    """Write scores with their seal.

    Args:
        scores: with the header of the predictions.
        predictions: that they were made from, complete.
    """
    content = {**scores, PREDICTIONS: sha256_file(predictions)}
    write_json(path, {**content, SEAL: seal_of_scores(content)})


def seal_of_scores(scores: Mapping[str, Any]) -> str:
    """Return the checksum of scores and of their predictions."""
    sealed = {key: value for key, value in scores.items() if key not in _NOT_SEALED}
    return hashlib.sha256(dump_json(sealed).encode()).hexdigest()


def doubt_of(scores: Mapping[str, Any], predictions: Path) -> str:
    """Say why scores are not those that were made from predictions; empty where they are.

    Predictions that are not there, such as those of results that were passed on without them, are
    no reason to doubt.
    """
    if scores.get(SEAL) != seal_of_scores(scores):
        return "changed since they were written"
    if not predictions.is_file():
        return ""
    if sha256_file(predictions) != scores.get(PREDICTIONS):
        return f"made from other predictions than {predictions}"
    try:
        if not is_sealed(predictions):
            return f"{predictions}: changed since it was made"
        if read_header(predictions) != scores.get("header"):
            return f"{predictions}: made with another adapter, other settings or data"
    except DataError as error:
        return str(error)
    return ""


def underived(scores: Mapping[str, Any], asked: Asked, rows: Sequence[Row]) -> str:
    """Say where scores differ from those that predictions give; empty where they do not.

    Scores that take long are not derived again. Ends of intervals have no part, as other versions
    of packages may draw others.

    Args:
        asked: what the predictions answer.
    """
    if not asked.is_cheap:
        return ""
    differing = list(_differences(asked.score(rows), scores))
    return f"not what the predictions give: {'; '.join(differing[:3])}" if differing else ""


def _differences(right: Mapping[str, Any], found: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for key, value in right.items():
        name, other = f"{at}{key}", found.get(key)
        if key in _DRAWN:
            continue
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _differences(value, other, f"{name}: ")
        elif isinstance(value, float) and isinstance(other, int | float):
            if not math.isclose(value, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
                yield f"{name} is {other}, not {value:.4f}"
        elif value != other:
            yield f"{name} is {other!r}, not {value!r}"
