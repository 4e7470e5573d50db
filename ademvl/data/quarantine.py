"""The list of damaged training items that a user decided to train without.

`quarantine.json` lies in the folder of a task's data and is part of what identifies a training. It
can name training items only: readers refuse it where it names anything else.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from ademvl.errors import DataError, list_findings
from ademvl.storage.files import read_json, write_json

QUARANTINE_FILE = "quarantine.json"

_REMEDY = "Write it anew with `ademvl data verify`, or delete it."
_log = logging.getLogger(__name__)


def read_quarantine(root: Path) -> frozenset[str]:
    """Return the ids of the training items to leave out; none where there is no such file.

    Raises:
        DataError: the file is malformed.
    """
    path = root / QUARANTINE_FILE
    if not path.exists():
        return frozenset()
    content = read_json(path, remedy=_REMEDY)
    items = content.get("train") if isinstance(content, dict) else None
    if not isinstance(items, dict) or not all(isinstance(why, str) for why in items.values()):
        raise DataError(f"{path}: no object 'train' of ids and reasons in it. {_REMEDY}")
    _log.warning("%s: %d damaged training items are left out", path, len(items))
    return frozenset(items)


def check_quarantine(root: Path, left_out: Collection[str], train_ids: Collection[str]) -> None:
    """Refuse a quarantine that names anything but items of the train split.

    Raises:
        DataError: lists the ids that are no training items.
    """
    known = frozenset(train_ids)
    if strangers := [item_id for item_id in sorted(left_out) if item_id not in known]:
        headline = f"{root / QUARANTINE_FILE}: names items that are not of the train split"
        raise DataError(list_findings(headline, [f"item {name}" for name in strangers], _REMEDY))


def write_quarantine(root: Path, reasons: Mapping[str, str]) -> None:
    """Write which training items to leave out, and why; without any, remove the list.

    Args:
        reasons: kind of finding by item id.
    """
    path = root / QUARANTINE_FILE
    if reasons:
        write_json(path, {"train": dict(reasons)})
    else:
        path.unlink(missing_ok=True)
