"""What is wrong with a data set, as records: which item, which split, what, and how bad."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "file",
    "checksum",
    "count",
    "record",
    "duplicate_id",
    "missing_image",
    "damaged_image",
    "duplicate_image",
]
"""`file`: cannot be read as a whole; `record`: an entry breaks its format, such as an answer
outside the choices; `duplicate_image`: the same bytes in several splits."""

Level = Literal["stops", "left_out", "unused", "note"]
"""`stops`: the data set cannot be used; `left_out`: training goes on without the item; `unused`: of
a split that is neither trained on nor the test split, an evaluation of it would stop; `note`:
nothing has to be done."""

REPORT_FILE = "verification.json"
"""All findings, in the data set's folder; written whether or not they stop anything."""
PASSED_FILE = "verified.json"
"""Written only when nothing stops: what later stages wait for."""
VERIFICATION_FILES = (REPORT_FILE, PASSED_FILE)


@dataclass(frozen=True)
class DataFinding:
    """One thing that is wrong.

    Attributes:
        kind: what sort of thing.
        text: file, id and what is wrong, for people.
        item_ids: the items that are left out for it: of a record one, of an image all that show it;
            empty where it concerns none.
        split: train, val or test; empty where it concerns none.
    """

    kind: Kind
    text: str
    item_ids: tuple[str, ...] = ()
    split: str = ""
