"""Studies by name: those of the folder that people work in, and those that ademvl brings."""

from difflib import get_close_matches
from pathlib import Path

from ademvl.errors import SettingsError
from ademvl.storage.project import PROJECT, STUDIES

MINI = "mini"
_MINI_FILE = "config.yaml"


def known_studies() -> dict[str, Path]:
    """Return study files by name; a file in the working directory stands before a shipped one."""
    found: dict[str, Path] = {}
    for folder in (Path(), PROJECT):
        for name, path in ((MINI, folder / _MINI_FILE), *_files_in(folder / STUDIES)):
            if path.is_file():
                found.setdefault(name, path)
    return found


def _files_in(folder: Path) -> list[tuple[str, Path]]:
    return [(path.stem, path) for path in sorted(folder.glob("*.yaml"))]


def find_study(given: str | None) -> Path:
    """Return the file of a study that a user named by path or by name; of mini without a name.

    Raises:
        SettingsError: there is none; names the nearest.
    """
    known = known_studies()
    name = given or MINI
    if given and Path(given).is_file():
        return Path(given)
    if name in known:
        return known[name]
    raise SettingsError(no_such_study(name))


def no_such_study(name: str) -> str:
    """Say that there is no study of this name or at this path, and which is the nearest."""
    known = known_studies()
    near = get_close_matches(Path(name).stem, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}? It is {known[near[0]]}" if near else ""
    return f"{name}: no study file, and no study of this name{hint} (there are {', '.join(known)})"
