"""MME's folder of a data set: how it is laid out and inspected."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.data.image_checks import ImageUse
from ademvl.data.links import Linker
from ademvl.tasks.copies import first_of, nothing_found
from ademvl.tasks.data_layout import DataLayout, Inspection
from ademvl.tasks.mme.reader import TASKS, parse_benchmark

_PREFIXES = (
    *("", "MME_Benchmark_release_version/", "MME_Benchmark_release_version/MME_Benchmark/"),
    *("MME_Benchmark/", "mme/", "data/MME_Benchmark_release_version/"),
)


def find_mme(copies: Sequence[Path]) -> Path:
    """Find the folder that holds MME's categories.

    Raises:
        DataError: no known layout; says what was looked for.
    """
    found = first_of(copies, [f"{prefix}existence" for prefix in _PREFIXES])
    if found is None:
        looked_for = "the benchmark's archive: MME_Benchmark_release_version/existence, ..."
        raise nothing_found("MME", copies, [looked_for])
    return found.parent


def _lay_out(
    root: Path, settings: DatasetSettings, copies: list[Path], linker: Linker
) -> dict[str, Any]:
    found = find_mme(copies)
    for folder in sorted(found.iterdir()):
        if folder.is_dir():
            linker.place(folder, root / folder.name)
    return {"layout": "MME"}


def _inspect(root: Path, found: Inspection) -> None:
    questions, wrong = parse_benchmark(root)
    for text in wrong:
        found.add(text, split="test")
    found.images = [
        ImageUse(f"{item.task}/{item.image.name}", f"{item.task} question", "test", item.image)
        for item in questions
    ]
    counts = Counter(item.task for item in questions)
    found.counts = {f"{task} questions": counts[task] for task in TASKS}
    found.expected = {f"{task} questions": size for task, size in TASKS.items()}


LAYOUT = DataLayout(find=find_mme, lay_out=_lay_out, inspect=_inspect)
