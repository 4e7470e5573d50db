"""Nested mappings of plain values: compared, cut, changed, and laid flat by path."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Path = tuple[str, ...]


def leaves(nested: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield path and value of all that is no mapping, in order."""
    for key, value in nested.items():
        path = (*prefix, str(key))
        if isinstance(value, Mapping):
            yield from leaves(value, path)
        else:
            yield path, value


def flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves by dotted path."""
    return {".".join(path): value for path, value in leaves(nested)}


def from_flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested mapping of values by dotted path."""
    found: dict[str, Any] = {}
    for path, value in values.items():
        *groups, key = path.split(".")
        inner = found
        for name in groups:
            inner = inner.setdefault(name, {})
        inner[key] = value
    return found


def differences(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted path and both values of each leaf that differs; None where there is none."""
    ours, theirs = flat(first), flat(second)
    for path in dict.fromkeys((*ours, *theirs)):
        if ours.get(path) != theirs.get(path):
            yield path, ours.get(path), theirs.get(path)


def holds(nested: Any, path: Path) -> bool:
    """Whether there is a value at a path of keys and indices of lists."""
    return not path or (_has(nested, path[0]) and holds(nested[_key(nested, path[0])], path[1:]))


def value_at(nested: Any, path: Path) -> Any:
    """Return the value at a path that the nested mapping holds."""
    return value_at(nested[_key(nested, path[0])], path[1:]) if path else nested


def find(nested: Any, path: Path) -> Any:
    """Return the value at a path of keys and indices of lists, None where there is none."""
    return value_at(nested, path) if holds(nested, path) else None


def with_leaves(nested: Any, change: Callable[[Path, Any], Any], path: Path = ()) -> Any:
    """Return a copy in which `change` made each value that is neither mapping nor list.

    Args:
        nested: mappings and lists within each other, or a single value.
        change: given the keys above a value, lists left out, and the value.
        path: keys above `nested`, where it is a part of something.
    """
    if isinstance(nested, Mapping):
        return {key: with_leaves(value, change, (*path, str(key))) for key, value in nested.items()}
    if isinstance(nested, list):
        return [with_leaves(value, change, path) for value in nested]
    return change(path, nested)


def without(nested: Any, path: Path) -> Any:
    """Return a copy without the key at a path, or without the list that the path leads into.

    A mapping in which nothing is left goes, too.
    """
    if not isinstance(nested, Mapping) or not path or not _has(nested, path[0]):
        return nested
    key = _key(nested, path[0])
    rest = without(nested[key], path[1:]) if len(path) > 1 else None
    if isinstance(rest, Mapping) and rest:
        return {**nested, key: rest}
    return {other: value for other, value in nested.items() if other != key}


def _has(nested: Any, key: str) -> bool:
    if isinstance(nested, Mapping):
        return any(str(own) == key for own in nested)
    return isinstance(nested, list | tuple) and key.isdecimal() and int(key) < len(nested)


def _key(nested: Any, key: str) -> Any:
    if isinstance(nested, Mapping):
        return next(own for own in nested if str(own) == key)
    return int(key)
