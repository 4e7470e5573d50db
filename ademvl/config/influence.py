"""What follows from what a setting changes: the one place that answers who depends on it.

Each question is about what a field says of itself; `fields_of` and `differing` go through all
fields of settings objects, those of the chosen method included.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from ademvl.config.method import MethodSettings
from ademvl.config.nested import Path
from ademvl.config.plain import all_plain
from ademvl.config.setting import Setting, setting_of

Question: TypeAlias = Callable[[Setting], bool]

_REPEATS = ("seed", "seeds")
"""Trainings that differ in these alone are repetitions of each other."""


def trains_anew(said: Setting) -> bool:
    """Whether another value makes another adapter; else runs with one adapter may differ in it."""
    return said.changes in ("results", "training")


def evaluates_anew(said: Setting) -> bool:
    """Whether another value may give other predictions with the same adapter."""
    return said.changes in ("results", "evaluation")


def binds_adapter(said: Setting) -> bool:
    """Whether whoever uses an adapter must have the value that it was trained with."""
    return said.changes == "results" and not said.portable


def is_told(said: Setting) -> bool:
    """Whether it is told as a difference between results, and compared as a factor of them.

    Not where the content of a place is compared instead.
    """
    return said.changes in ("results", "training", "evaluation") and not said.by_content


def told_settings(settings: Any) -> dict[str, Any]:
    """Return the settings by which results are told apart, plain, by dotted path; no seeds."""
    return {
        ".".join(path): all_plain(value)
        for path, said, value in fields_of(settings)
        if is_told(said) and ".".join(path) not in _REPEATS
    }


def told_differences(first: Any, second: Any) -> list[tuple[str, Any, Any]]:
    """Return dotted path and both values of such settings in which two objects differ."""
    found = differing(first, second, is_told)
    return [difference for difference in found if difference[0] not in _REPEATS]


def fields_of(settings: Any, prefix: Path = ()) -> Iterator[tuple[Path, Setting, Any]]:
    """Yield path, what the field says of itself, and value of each setting, groups opened."""
    for field in dataclasses.fields(settings):
        value, path = getattr(settings, field.name), (*prefix, field.name)
        if dataclasses.is_dataclass(value):
            yield from fields_of(value, path)
        else:
            yield path, setting_of(field), value


def differing(first: Any, second: Any, question: Question) -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted path and both plain values of settings in which two objects differ.

    Of two methods only the names are told, as their other settings have nothing in common.

    Args:
        first: settings object.
        second: of the same class, or a method's settings too.
        question: about the settings that are looked at.
    """
    for field in dataclasses.fields(first):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        if isinstance(ours, MethodSettings) and ours.name != theirs.name:
            yield f"{field.name}.name", ours.name, theirs.name
        elif dataclasses.is_dataclass(ours):
            for path, own, other in differing(ours, theirs, question):
                yield f"{field.name}.{path}", own, other
        elif ours != theirs and question(setting_of(field)):
            yield field.name, all_plain(ours), all_plain(theirs)
