"""JSON Schema of settings classes, and checking of raw settings against it.

The dataclasses are the only place where keys, defaults and descriptions live: the schema is derived
from them, `workflow/schemas/` holds a printed copy, and a test compares the two.
"""

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ademvl.config.method import DEFAULT_METHOD, MethodSettings, settings_class_of
from ademvl.errors import SettingsError, list_findings

OMITTED_AT_DEFAULT: Mapping[str, bool] = types.MappingProxyType({"omitted_at_default": True})
"""Metadata of a field that came when results existed already, and whose default changes none of
them: settings are written without it where it has its default, so that those results stay valid."""
UNWRITTEN_AT_DEFAULT: Mapping[str, bool] = types.MappingProxyType({"unwritten_at_default": True})
"""Metadata of a field that is written nowhere where it has its default."""

_NUMBERS = ("integer", "number")
_LEFT_OUT = {"omitted_at_default", "unwritten_at_default"}
_TRUTHS = {"true": True, "false": False}

Settings = TypeVar("Settings")


@cache
def schema_of(settings_class: type) -> dict[str, Any]:
    """Derive the JSON Schema of a settings dataclass, with defaults and descriptions."""
    hints = get_type_hints(settings_class)
    descriptions = _attribute_descriptions(settings_class)
    properties: dict[str, Any] = {}
    required = []
    for field in dataclasses.fields(settings_class):
        entry = dict(_schema_of_type(hints[field.name]))
        if field.name in descriptions:
            entry["description"] = descriptions[field.name]
        if field.default is not dataclasses.MISSING:
            entry["default"] = all_plain(field.default)
        elif field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        elif dataclasses.is_dataclass(hints[field.name]):
            entry["default"] = all_plain(field.default_factory())
        properties[field.name] = entry
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    if required:
        schema["required"] = required
    return schema


def _schema_of_type(hint: Any) -> Mapping[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is MethodSettings:
        return schema_of(settings_class_of(DEFAULT_METHOD))  # type: ignore[arg-type]
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return schema_of(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": dict(_schema_of_type(arguments[0]))}
    if origin in (Mapping, dict) or origin is getattr(types, "MappingProxyType", None):
        return {"type": "object", "additionalProperties": dict(_schema_of_type(arguments[1]))}
    if origin in (Union, types.UnionType):
        return {"anyOf": [dict(_schema_of_type(argument)) for argument in arguments]}
    simple = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
    if hint in simple:
        return {"type": simple[hint]}
    return {}  # a free value, checked by whoever takes it


def _attribute_descriptions(settings_class: type) -> dict[str, str]:
    """Read `Attributes:` of a Google-style docstring: name -> one line of text."""
    text = (settings_class.__doc__ or "").partition("Attributes:")[2]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        match = re.match(r"^ {8}([a-z_0-9]+(?:, [a-z_0-9]+)*): (.*)$", line)
        if match:
            names = [name.strip() for name in match[1].split(",")]
            found.update(dict.fromkeys(names, match[2].strip()))
        elif names and line.strip():
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return found


def all_plain(value: Any) -> Any:
    """Turn settings objects and what they hold into plain values, every key included."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: all_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (_has_default(field, value) and field.metadata.get("unwritten_at_default"))
        }
    if isinstance(value, tuple | list):
        return [all_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: all_plain(item) for key, item in value.items()}
    return value


def _has_default(field: dataclasses.Field[Any], settings: Any) -> bool:
    return bool(getattr(settings, field.name) == field.default)


def to_plain(settings: Any) -> dict[str, Any]:
    """Turn a settings object into nested dicts and lists, as written to YAML or JSON.

    Without the keys that are `OMITTED_AT_DEFAULT` and have their default.
    """
    plain = _without_omitted(settings)
    assert isinstance(plain, dict)
    return plain


def _without_omitted(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _without_omitted(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not (_has_default(field, value) and field.metadata.keys() & _LEFT_OUT)
        }
    if isinstance(value, Mapping):
        return {key: _without_omitted(item) for key, item in value.items()}
    return all_plain(value)


def check(
    raw: Mapping[str, Any],
    schema: Mapping[str, Any],
    *,
    source: str,
    remedy: str = "All keys: docs/settings.md.",
) -> dict[str, Any]:
    """Check raw settings; what arrives as text (`--config`, `9e-3`) is converted.

    Args:
        raw: keys and values as read.
        schema: what is allowed.
        source: file or place they come from, named in errors.
        remedy: last line of the error.

    Returns:
        The settings with numbers and booleans converted.

    Raises:
        SettingsError: lists every wrong key and value with its path, what was found, what is
            allowed, and the nearest right spelling.
    """
    converted = _convert_text(all_plain(raw), schema)
    errors = _validator_class()(schema).iter_errors(converted)
    findings = [
        text
        for error in sorted(errors, key=lambda e: list(map(str, e.path)))
        for text in _explain(error)
    ]
    if findings:
        findings = list(dict.fromkeys(findings))  # n missing keys are n errors that name all n
        raise SettingsError(list_findings(f"{source}: wrong settings", findings, remedy))
    assert isinstance(converted, dict)
    return converted


@cache
def _validator_class() -> Any:
    """Return a JSON Schema validator to which 1.0 is no integer, and nan and inf no numbers."""
    import jsonschema

    standard = jsonschema.Draft202012Validator
    checker = standard.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: type(value) is int,
            "number": lambda _, value: type(value) in (int, float) and math.isfinite(value),
        }
    )
    return jsonschema.validators.extend(standard, type_checker=checker)


def _convert_text(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        fallback = schema.get("additionalProperties") or {}
        return {
            key: _convert_text(item, properties.get(key, fallback)) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_convert_text(item, schema.get("items", {})) for item in value]
    if isinstance(value, str) and schema.get("type") in _NUMBERS:
        for convert in (int, float) if schema["type"] == "number" else (int,):
            try:
                return convert(value)
            except ValueError:
                continue
    if isinstance(value, str) and schema.get("type") == "boolean":
        return _TRUTHS.get(value.lower(), value)
    return value


def _explain(error: Any) -> Iterator[str]:
    path = ".".join(map(str, error.path))
    if error.validator == "additionalProperties":
        allowed = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in allowed:
                where = f"{path}.{key}" if path else str(key)
                yield f"{where}: unknown key{_suggest(str(key), allowed)}"
    elif error.validator == "enum":
        allowed = [str(value) for value in error.validator_value]
        yield f"{path}: {error.instance!r} is not allowed{_suggest(str(error.instance), allowed)}"
    elif error.validator == "anyOf":
        allowed = [str(option.get("enum") or option["type"]) for option in error.validator_value]
        yield f"{path}: {error.instance!r}, expected one of {', '.join(allowed)}"
    elif error.validator == "type":
        expected = {"number": "finite number"}.get(error.validator_value, error.validator_value)
        yield f"{path or 'settings'}: {error.instance!r}, expected {expected}"
    elif error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        yield f"{path or 'settings'}: missing {', '.join(missing)}"
    else:
        yield f"{path}: {error.message}"


def _suggest(found: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(found, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f" (allowed: {', '.join(allowed)}){hint}"


def build(settings_class: type[Settings], checked: Mapping[str, Any]) -> Settings:
    """Build a settings object from checked raw settings; absent keys get their defaults.

    Raises:
        SettingsError: from a class's own checks of ranges and combinations.
    """
    hints = get_type_hints(settings_class)
    arguments = {key: _build_value(hints[key], value) for key, value in checked.items()}
    return settings_class(**arguments)


def _build_value(hint: Any, value: Any) -> Any:
    if hint is MethodSettings:
        return build(settings_class_of(value.get("name", DEFAULT_METHOD)), value)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value)
    if get_origin(hint) is tuple:
        return tuple(_build_value(get_args(hint)[0], item) for item in value)
    if get_origin(hint) in (Mapping, dict):
        return {key: _build_value(get_args(hint)[1], item) for key, item in value.items()}
    if hint is float and value is not None:
        return float(value)
    return tuple(value) if isinstance(value, list) else value
