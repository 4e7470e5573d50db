"""What the folder of each data set gives to laying it out and to verifying it.

An inspection, unlike the readers, which refuse, goes on and gives everything that is wrong as
findings. What is in quarantine is inspected too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.data.findings import DataFinding
from ademvl.data.image_checks import ImageUse
from ademvl.data.links import Linker
from ademvl.data.surrogates import escape_surrogates


@dataclass
class Inspection:
    """What a folder holds.

    Attributes:
        findings: what is wrong, images aside.
        images: every use of an image by an item.
        counts: sizes by name.
        expected: published sizes by the same names.
        has_test: whether there is a test split.
    """

    findings: list[DataFinding] = field(default_factory=list)
    images: list[ImageUse] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    has_test: bool = True

    def add(self, text: str, item_id: str = "", split: str = "") -> None:
        """Add a finding about a record."""
        self.findings.append(_record(text, item_id, split))


def _record(text: str, item_id: str, split: str) -> DataFinding:
    return DataFinding("record", escape_surrogates(text), (item_id,) if item_id else (), split)


@dataclass(frozen=True, kw_only=True)
class DataLayout:
    """How a data set is found, laid out and inspected; `LAYOUT` of a folder's `layout.py`.

    Attributes:
        find: looks for its parts in copies, in order of preference; raises DataError where they are
            in no known layout.
        lay_out: links its parts into a folder of the project's layout, and returns what the
            manifest says about where they came from.
        inspect: adds what such a folder holds, and all that is wrong with it, to an inspection.
    """

    find: Callable[[Sequence[Path]], object]
    lay_out: Callable[[Path, DatasetSettings, list[Path], Linker], dict[str, Any]]
    inspect: Callable[[Path, Inspection], None]


def place_images(source: Path, root: Path, name: str, linker: Linker) -> None:
    """Place a folder of images as `images/<name>`, or a packed one as `images/<name>.zip`."""
    suffix = ".zip" if source.suffix == ".zip" else ""
    linker.place(source, root / "images" / f"{name}{suffix}")
