"""What is wrong with settings, in words: path, found value, what is allowed, nearest spelling."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from ademvl.config.method import MethodSettings
from ademvl.config.methods_by_name import DEFAULT_METHOD, settings_class_of
from ademvl.config.nested import Path, find
from ademvl.config.setting import REFUSED, RELATION, setting_of
from ademvl.config.strict_types import without_none
from ademvl.errors import SettingsError, list_findings

REMEDY = "All keys: docs/settings.md."
_EXPECTED: Mapping[str, str] = {
    "int": "integer",
    "float": "finite number",
    "finite": "finite number",
    "bool": "boolean",
    "string": "string",
    "tuple": "array",
    "mapping": "object",
    "dict": "object",
    "dataclass": "object",
}
"""Words for a type by the first word of pydantic's kinds of errors."""
_RANGES = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


@dataclass(frozen=True)
class SettingsFinding:
    """One thing that is wrong.

    Attributes:
        path: of the key that is named.
        text: what is wrong with it.
        about: paths of all that has to go before the rest can be looked at.
        is_relation: whether each of these is right by itself.
    """

    path: Path
    text: str
    about: tuple[Path, ...]
    is_relation: bool = False

    def __str__(self) -> str:
        return f"{'.'.join(self.path) or 'settings'}: {self.text}"


def refuse(
    error: ValidationError, settings_class: type, values: Mapping[str, Any]
) -> SettingsError:
    """Return the error of a settings object that cannot be built from these values."""
    found = [str(finding) for finding in findings_of(error, settings_class, values)]
    headline = f"{settings_class.__name__}: wrong settings"
    return SettingsError(list_findings(headline, found, REMEDY))


def findings_of(
    error: ValidationError, root: type, raw: Any, *, removed: Collection[Path] = ()
) -> list[SettingsFinding]:
    """Put pydantic's errors in words.

    Args:
        error: what pydantic raised when it read `raw` as `root`.
        root: settings class, which tells the allowed keys and values.
        raw: what was read, which says whose settings a method's keys are.
        removed: keys that were taken away as they were wrong, and so are not missing.
    """
    found: list[SettingsFinding] = []
    missing: dict[Path, list[str]] = {}
    for one in error.errors(include_url=False):
        path = tuple(map(str, one["loc"]))
        if one["type"] == "missing":
            if path in removed:
                continue
            missing.setdefault(path[:-1], []).append(path[-1])
        else:
            found.append(_finding(one, path, root, raw))
    return found + [
        SettingsFinding(path, f"missing {', '.join(keys)}", (path,))
        for path, keys in missing.items()
    ]


def _finding(one: Any, path: Path, root: type, raw: Any) -> SettingsFinding:
    kind, value = one["type"], one["input"]
    if kind == RELATION:
        about = tuple((*path[:-1], key) for key in one["ctx"]["keys"])
        return SettingsFinding(path, one["ctx"]["text"], about, is_relation=True)
    if kind == REFUSED:
        is_method = path[-2:] == ("method", "name")  # what else stands there is not known then
        return SettingsFinding(path, one["ctx"]["text"], (path[:-1] if is_method else path,))
    return SettingsFinding(path, _text(kind, value, one, _around(root, path, raw)), (path,))


def _text(kind: str, value: Any, one: Any, around: "_Around") -> str:
    if kind == "unexpected_keyword_argument":
        of_method = f" of method {around.method}" if around.method else ""
        return f"unknown key{of_method}{suggest(around.key, around.keys)}"
    if kind == "literal_error":
        return f"{value!r} is not allowed{suggest(str(value), around.values)}"
    if kind in _RANGES:
        return f"{value!r}, expected {around.range}"
    if kind == "value_error":
        return str(one["ctx"]["error"])
    if expected := _EXPECTED.get(kind.partition("_")[0]):
        return f"{value!r}, expected {expected}"
    return f"{value!r}: {one['msg']}"


def suggest(found: str, allowed: Sequence[str]) -> str:
    """List what is allowed, and the nearest to what was found."""
    near = get_close_matches(found, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f" (allowed: {', '.join(allowed)}){hint}"


@dataclass(frozen=True)
class _Around:
    """What is known of the place of an error.

    Attributes:
        key: where the path ends.
        keys: allowed in the group that it stands in.
        method: whose settings the key stands among; empty outside of them and in their groups.
        values: allowed for the key, where they are listed.
        range: allowed for the key, where it is a number with one.
    """

    key: str
    keys: tuple[str, ...] = ()
    method: str = ""
    values: tuple[str, ...] = ()
    range: str = ""


def _around(root: type, path: Path, raw: Any) -> _Around:
    """Follow a path of keys through settings classes, mappings and lists."""
    around, hint = _Around(""), root
    for key in path:
        if hint is MethodSettings:
            hint = settings_class_of(_name_in(raw))
        raw = find(raw, (key,))
        if not dataclasses.is_dataclass(hint):
            hint = _element(hint)
            around = dataclasses.replace(around, key=key, values=_values(hint))
            continue
        fields = {field.name: field for field in dataclasses.fields(hint)}
        is_method = isinstance(hint, type) and issubclass(hint, MethodSettings)
        method = str(fields["name"].default) if is_method else ""
        around = _Around(key, tuple(fields), method)
        if key in fields:
            said = setting_of(fields[key])
            hint = without_none(_hints(hint)[key])
            around = _Around(key, tuple(fields), method, _values(hint), said.range)
    return around


@cache
def _hints(settings_class: Any) -> dict[str, Any]:
    return get_type_hints(settings_class)


def _element(hint: Any) -> Any:
    """Return the type of what a list or a mapping holds."""
    arguments = get_args(hint)
    if get_origin(hint) is tuple:
        return without_none(arguments[0])
    return without_none(arguments[1]) if get_origin(hint) is Mapping else hint


def _values(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def _name_in(raw: Any) -> str:
    return str(raw.get("name", DEFAULT_METHOD)) if isinstance(raw, Mapping) else DEFAULT_METHOD
