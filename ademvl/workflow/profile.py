"""What a Snakemake profile says: executor, options, resources of all jobs and by rule."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ademvl.errors import SettingsError
from ademvl.storage.project import PROJECT

PROFILES = Path("workflow/profiles")
GPU_RULES = ("feature_cache", "train_run", "evaluate_run", "fusion_maps")
_FILES = ("profile.yaml", "config.v9+.yaml", "config.yaml")


@dataclass(frozen=True)
class Profile:
    """What matters here of a profile, or of a workflow that is about to start.

    Attributes:
        executor: name of Snakemake's executor.
        options: all keys of the profile.
        default_resources: resources of all jobs.
        set_resources: resources by rule.
    """

    executor: str = "local"
    options: Mapping[str, Any] = field(default_factory=dict)
    default_resources: Mapping[str, Any] = field(default_factory=dict)
    set_resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def resources(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each place where resources are set, and what holds there, defaults included.

        Rules on a GPU ask for one themselves, whatever the defaults are.
        """
        yield "default-resources", dict(self.default_resources)
        for rule in dict.fromkeys([*self.set_resources, *GPU_RULES]):
            asked = {"gpu": 1} if rule in GPU_RULES else {}
            own = self.set_resources.get(rule, {})
            yield f"set-resources: {rule}", {**self.default_resources, **asked, **own}


def read_profile(name: str) -> Profile:
    """Read a profile by its folder, or by its name under workflow/profiles.

    Raises:
        SettingsError: there is none, or it is not readable.
    """
    path = find_profile(name)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise SettingsError(f"{path}: expected keys and values")
    defaults, by_rule = raw.get("default-resources"), raw.get("set-resources")
    return Profile(
        executor=str(raw.get("executor", "local")),
        options=raw,
        default_resources=pairs(defaults, place=f"{path}: default-resources"),
        set_resources=_by_rule(by_rule, place=f"{path}: set-resources"),
    )


def find_profile(name: str) -> Path:
    """Return the file of a profile that is named by its folder, or as one in workflow/profiles.

    Raises:
        SettingsError: there is none.
    """
    folders = (Path(name), PROFILES / name, PROJECT / PROFILES / name)
    paths = [folder / file for folder in folders for file in _FILES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        shipped = sorted(folder.name for folder in (PROJECT / PROFILES).glob("*"))
        known = f"; {PROFILES} has {', '.join(shipped)}"
        raise SettingsError(f"--profile {name}: no folder with a {_FILES[-1]}{known}")
    return path


def pairs(raw: Any, *, place: str) -> dict[str, Any]:
    """Return what a profile says of some names as a mapping; in the list form it is `name=value`.

    Raises:
        SettingsError: it is neither; names `place`.
    """
    if isinstance(raw, Mapping):
        return dict(raw)
    if not isinstance(raw, list | str | None):
        raise SettingsError(f"{place}: {raw!r}, expected names with values")
    entries = [raw] if isinstance(raw, str) else raw or []
    return {name: value for name, _, value in (str(entry).partition("=") for entry in entries)}


def _by_rule(raw: Any, *, place: str) -> dict[str, dict[str, Any]]:
    """Return resources by rule; in the list form an entry is `rule:name=value`."""
    if isinstance(raw, Mapping):
        return {rule: pairs(own, place=f"{place}: {rule}") for rule, own in raw.items()}
    found: dict[str, dict[str, Any]] = {}
    for entry, value in pairs(raw, place=place).items():
        rule, _, name = entry.partition(":")
        found.setdefault(rule, {})[name] = value
    return found
