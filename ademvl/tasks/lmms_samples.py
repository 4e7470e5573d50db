"""Predictions as samples of lmms-eval (`--log_samples`), one a line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ademvl.errors import DataError, list_findings
from ademvl.tasks.base import Row

REMEDY = "Evaluate the run first: `ademvl evaluate`."


def lmms_sample(
    doc_id: int, doc: Mapping[str, object], target: str, answer: str
) -> dict[str, object]:
    """Return one sample.

    Args:
        doc_id: number of the item.
        doc: what is asked.
        answer: what was predicted.
    """
    return {
        "doc_id": doc_id,
        "doc": dict(doc),
        "target": target,
        "resps": [[answer]],
        "filtered_resps": [answer],
    }


def as_lines(samples: Sequence[Mapping[str, object]]) -> str:
    """Return samples as lines of JSON."""
    return "\n".join(map(json.dumps, samples))


def rows_by_id(path: Path, rows: Sequence[Row], item_ids: Sequence[str]) -> dict[str, Row]:
    """Return rows by id.

    Raises:
        DataError: an item has none; lists them.
    """
    found = {str(row["id"]): row for row in rows}
    if missing := [f"question {item}: no prediction" for item in item_ids if item not in found]:
        raise DataError(list_findings(f"{path}: of other data", missing, REMEDY))
    return found
