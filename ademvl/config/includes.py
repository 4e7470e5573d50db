"""Studies made of other study files, which may share runs but never contradict each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ademvl.config.chosen_runs import keep_chosen
from ademvl.config.inheritance import merge_settings
from ademvl.config.key_lines import KeyLines
from ademvl.config.nested import leaves
from ademvl.config.strict_yaml import load_with_lines
from ademvl.errors import SettingsError, list_findings
from ademvl.storage.project import PROJECT

_IGNORED = ("study", "include")
"""Keys of an included file that have no effect."""


def read_with_lines(path: Path, *, name: str) -> tuple[Mapping[str, Any], KeyLines]:
    """Read a YAML file of keys and values; return also the line of each.

    Args:
        name: by which the lines name it.

    Raises:
        SettingsError: it cannot be read, is something else, or not read as it is meant.
    """
    try:
        raw, lines = load_with_lines(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        found = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise SettingsError(f"{path}: expected keys and values, found {found}")
    return raw, KeyLines({key: f"{name}:{line}" for key, line in lines.items()})


def expand_includes(
    raw: Mapping[str, Any], key_lines: KeyLines, *, source: str, above: tuple[Path, ...] = ()
) -> tuple[dict[str, Any], KeyLines]:
    """Put the content of included files in place of the key `include`.

    What the including file says itself stands above what is included.

    Args:
        raw: a study as read.
        key_lines: of its keys.
        source: file or place it comes from.
        above: files that include this one.

    Raises:
        SettingsError: a file is missing, malformed or includes itself; or lists keys for which
            two included files have different values and the including file has none, or entries
            that are to be kept or dropped and that no included file has.
    """
    own = {key: value for key, value in raw.items() if key != "include"}
    merged: dict[str, Any] = {}
    included = KeyLines()
    seen: list[tuple[str, Mapping[str, Any]]] = []
    findings: list[str] = []
    for name in _names(raw, source):
        path = _find(name, source)
        if path in above:
            raise SettingsError(f"{source}: include: {name} includes itself")
        read, lines = read_with_lines(path, name=name)
        content, lines = expand_includes(read, lines, source=name, above=(*above, path))
        content = {key: value for key, value in content.items() if key not in _IGNORED}
        for earlier, other in seen:
            findings += [
                f"{key} differs in {earlier} and {name}" for key in _clashes(other, content, own)
            ]
        seen.append((name, content))
        merged = merge_settings(merged, content)
        included = lines.over(included)
    if findings:
        remedy = "Give runs that differ different names, or set the key in the including file."
        raise SettingsError(list_findings(f"{source}: included files disagree", findings, remedy))
    content = merge_settings(merged, own)
    if merged:
        content = keep_chosen(merged, content, source=source)
    return content, key_lines.over(included.where_unchanged(merged, content))


def _names(raw: Mapping[str, Any], source: str) -> list[str]:
    names = raw.get("include", [])
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"{source}: include: {names!r}, expected a list of study files")
    return list(names)


def _find(name: str, source: str) -> Path:
    """Return the included file: from the working directory, else of the project."""
    for folder in (Path(), PROJECT):
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise SettingsError(
        f"{source}: include: {name}: no such file, neither here ({Path().absolute()}) nor in "
        f"{PROJECT}"
    )


def _clashes(
    first: Mapping[str, Any], second: Mapping[str, Any], own: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the paths of keys in which two files disagree, and which `own` does not decide.

    Defaults, and a run that both have, must be the same as a whole; of all else, only keys that
    both have can disagree.
    """
    ours, theirs, decided = (dict(leaves(raw)) for raw in (first, second, own))
    for path in dict.fromkeys((*ours, *theirs)):
        is_whole = (path[0] == "defaults" and "defaults" in first and "defaults" in second) or (
            path[0] == "runs"
            and path[1] in first.get("runs", {})
            and path[1] in second.get("runs", {})
        )
        in_both = path in ours and path in theirs
        if path not in decided and (in_both or is_whole) and ours.get(path) != theirs.get(path):
            yield ".".join(path)
