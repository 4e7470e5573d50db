"""Which methods there are, and each one's settings class by its name.

- Methods and systems of this package are found by their folder; methods of other packages by the
  entry point group `ademvl.methods`, which names a folder's package or a settings class; that of a
  single file by `register_method`.
- Nothing is imported before it is asked for by name, so that this package needs none of them.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

import ademvl
from ademvl.config.method import MethodSettings
from ademvl.config.setting import REFUSED
from ademvl.errors import SettingsError

DEFAULT_METHOD = "adem"
"""Method of a run that names none; its name is never written, as runs had no other once."""
ENTRY_POINTS = "ademvl.methods"
"""Group of entry points by which other packages add methods."""

_PACKAGE = Path(ademvl.__file__).parent
_registered: dict[str, type[MethodSettings]] = {}

Settings = TypeVar("Settings", bound=type[MethodSettings])


def register_method(settings_class: Settings) -> Settings:
    """Add a method by its settings class, whose field `name` has the method's name as default.

    For a method in a single file: what is trained then stands in the module of the class, too. That
    commands find it, an entry point names the class; without one, whoever imports the file does.

    Raises:
        TypeError: the class has no name of its own, or another one has it already.
    """
    name = _name_of(settings_class)
    if _module_of(name) not in ("", settings_class.__module__):
        raise TypeError(
            f"{settings_class.__qualname__}: a method {name!r} exists already, in "
            f"{_module_of(name)}"
        )
    _registered[name] = settings_class
    return settings_class


def _module_of(name: str) -> str:
    """Return where a method of this name comes from, without importing it; empty for none."""
    if name in _registered:
        return _registered[name].__module__
    if name in _folders():
        return _folders()[name]
    point = _entry_points().get(name)
    return point.module if point else ""


def known_methods() -> tuple[str, ...]:
    """Return the names of all methods and systems: built-in ones, then those of other packages."""
    return tuple(dict.fromkeys((*_folders(), *_entry_points(), *_registered)))


def built_in_methods() -> tuple[str, ...]:
    """Return the names of this package's methods, the default one first."""
    found = sorted(_modules_in("methods"))
    return tuple(sorted(found, key=lambda name: name != DEFAULT_METHOD))


def built_in_systems() -> tuple[str, ...]:
    """Return the names of this package's systems that are no methods on a frozen decoder."""
    return tuple(sorted(_modules_in("systems")))


def _folders() -> dict[str, str]:
    """Return the module with the settings of each built-in method and system, by name."""
    modules = _modules_in("methods") | _modules_in("systems")
    return {name: modules[name] for name in (*built_in_methods(), *built_in_systems())}


def _modules_in(part: str) -> dict[str, str]:
    names = [path.parent.name for path in (_PACKAGE / part).glob("*/settings.py")]
    return {name: f"ademvl.{part}.{name}.settings" for name in names}


def settings_class_of(name: str) -> type[MethodSettings]:
    """Return the settings class of a method; its module is imported now.

    Raises:
        SettingsError: there is no such method; names the nearest. Or its package cannot be loaded.
        TypeError: what is found under this name holds no such settings class.
    """
    if not isinstance(name, str):
        raise SettingsError(f"{name!r} is no name of a method")
    if name in _registered:
        return _registered[name]
    if name in (folders := _folders()):
        return _class_in(folders[name], name)
    if name in (others := _entry_points()):
        return _class_of_entry_point(others[name])
    known = known_methods()
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise SettingsError(f"{name!r} is no method (known: {', '.join(known)}){hint}")


def default_method() -> MethodSettings:
    """Return the default method with its default settings."""
    build: Callable[[], MethodSettings] = settings_class_of(DEFAULT_METHOD)
    return build()


class _ChosenByName:
    """Lets pydantic read the settings of whatever method is named, known when it is read."""

    def __get_pydantic_core_schema__(
        self, source: type, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_choose)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        classes = [settings_class_of(name) for name in _folders()]
        schemas: list[Any] = [cls.__pydantic_core_schema__ for cls in classes]  # type: ignore[attr-defined]
        return {"anyOf": [handler(schema) for schema in schemas]}


AnyMethod: TypeAlias = Annotated[MethodSettings, _ChosenByName()]
"""Type of a setting that holds the settings of any method."""


def _choose(raw: Any) -> MethodSettings:
    if isinstance(raw, MethodSettings):
        return raw
    if not isinstance(raw, dict):
        raise PydanticCustomError("dict_type", "expected keys and values")
    name = raw.get("name", DEFAULT_METHOD)
    try:
        chosen: Any = settings_class_of(name)
    except SettingsError as error:
        kind = PydanticCustomError(REFUSED, "{text}", {"text": str(error)})
        line = InitErrorDetails(type=kind, loc=("name",), input=name)
        raise ValidationError.from_exception_data("method", [line]) from None
    settings: MethodSettings = chosen.__pydantic_validator__.validate_python(raw)
    return settings


def trained_module(settings: MethodSettings) -> str:
    """Return the name of the module with what the method trains: beside its `settings.py`.

    For a method in a single file it is that file's module.
    """
    package, _, module = type(settings).__module__.rpartition(".")
    return f"{package}.method" if module == "settings" else type(settings).__module__


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _class_of_entry_point(point: EntryPoint) -> type[MethodSettings]:
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"{point.name!r}: the entry point {point.value!r} of group {ENTRY_POINTS} cannot be "
            f"loaded: {error}; install or repair its package"
        ) from error
    if isinstance(found, type) and issubclass(found, MethodSettings):
        return found
    return _class_in(f"{point.module}.settings", point.name)


def _class_in(module: str, name: str) -> type[MethodSettings]:
    for found in _classes(module):
        if _is_declared(found) and _name_of(found) == name:
            return found
    if undeclared := [found for found in _classes(module) if not _is_declared(found)]:
        _name_of(undeclared[0])
    raise TypeError(f"{module}: holds no settings class whose name is {name!r}")


def _classes(module: str) -> Iterator[type[MethodSettings]]:
    for value in vars(importlib.import_module(module)).values():
        is_class = isinstance(value, type) and issubclass(value, MethodSettings)
        if is_class and value is not MethodSettings:
            yield value


def _is_declared(found: type) -> bool:
    return "__pydantic_validator__" in vars(found)


def _name_of(found: type[MethodSettings]) -> str:
    if not _is_declared(found):
        raise TypeError(f"{found.__qualname__}: put @settings_class on it")
    name = next(field.default for field in fields(found) if field.name == "name")
    if not isinstance(name, str):
        raise TypeError(f"{found.__qualname__}: give its field `name` a default")
    return name
