"""Settings as plain values: nested dicts and lists, as they stand in YAML and JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ademvl.config.setting import setting_of


def to_plain(settings: Any) -> dict[str, Any]:
    """Return a settings object as it is written.

    Without the keys that are omitted at their default and have it, see `setting`.
    """
    plain: dict[str, Any] = _plain(settings, omits=True)
    return plain


def all_plain(value: Any) -> Any:
    """Return settings objects and what they hold as plain values, with every key."""
    return _plain(value, omits=False)


def _plain(value: Any, *, omits: bool) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: _plain(getattr(value, field.name), omits=omits)
            for field in dataclasses.fields(value)
            if not _is_omitted(field, getattr(value, field.name), omits=omits)
        }
    if isinstance(value, Mapping):
        return {key: _plain(item, omits=omits) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item, omits=False) for item in value]
    return value


def _is_omitted(field: "dataclasses.Field[Any]", value: Any, *, omits: bool) -> bool:
    said = setting_of(field)
    if not (said.unwritten_at_default or (omits and said.omitted_at_default)):
        return False
    return bool(value == default_of(field))


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """Return a field's default; `dataclasses.MISSING` where the key is required."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
