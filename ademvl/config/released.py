"""Checks of runs that evaluate a released adapter, and where its checkpoint lies."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ademvl.config.key_lines import KeyLines
from ademvl.config.run import RELEASED, TRAINED
from ademvl.config.study_settings import RunTemplate
from ademvl.errors import WeightsError

RELEASED_METHODS = ("adem", "memvp", "lavin")
"""Methods whose authors' adapters can be read: those in `ademvl/released/forms.py`."""
_SOURCE_NAME = re.compile(r"[a-z0-9_]+")


def is_source_name(released_from: str) -> bool:
    """Whether a run's key `released_from` names a source of downloads, and not a file."""
    return bool(_SOURCE_NAME.fullmatch(released_from))


def checkpoint_path(released_from: str, shared_dir: str) -> str:
    """Return the file, or the folder that it is downloaded to, of a run's `released_from`."""
    if is_source_name(released_from):
        return f"{shared_dir}/downloads/{released_from}"
    return released_from


def check_released(runs: Mapping[str, RunTemplate], key_lines: KeyLines) -> None:
    """Refuse runs that evaluate a released adapter of no file or another method, or train one too.

    Args:
        runs: complete settings by name.
        key_lines: file and line of the keys.

    Raises:
        SettingsError: lists all such runs.
    """
    key_lines.refuse(
        (text for name, run in runs.items() for text in _findings(name, run)),
        headline="Released adapters",
        remedy=f"`adapter: {RELEASED}` evaluates the checkpoint that `released_from` names: a "
        "file, or a source such as adem_released_scienceqa. Adapters of these methods' authors "
        f"can be read: {', '.join(RELEASED_METHODS)}.",
    )


def seed_findings(name: str, run: RunTemplate) -> Iterator[str]:
    """Find fault with any but one seed of a run that trains nothing."""
    if len(run.seeds) != 1:
        yield f"runs.{name}.seeds: {list(run.seeds)}, but nothing is trained; give one"


def _findings(name: str, run: RunTemplate) -> Iterator[str]:
    if run.adapter == TRAINED and run.released_from:
        yield f"runs.{name}.released_from: {run.released_from!r}, but the run trains an adapter"
    if run.adapter != RELEASED:
        return
    if not run.released_from:
        yield f"runs.{name}.released_from: empty, expected a file or a source"
    if run.method.name not in RELEASED_METHODS:
        yield f"runs.{name}.method.name: {run.method.name!r}, of which no released adapter is read"
    yield from seed_findings(name, run)


_CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors")


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint that a path names: the file, or the only one in the folder.

    Raises:
        WeightsError: there is none, or several.
    """
    if path.is_file():
        return path
    found = sorted(file for file in path.glob("*") if file.suffix in _CHECKPOINT_SUFFIXES)
    if len(found) != 1:
        listed = ", ".join(file.name for file in found) or "nothing"
        raise WeightsError(
            f"{path}: expected a checkpoint, or a folder that holds one (*.pth, *.safetensors); "
            f"found {listed}. Download the source, or name the file."
        )
    return found[0]
