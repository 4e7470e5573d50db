"""How settings are declared: each says its range, its default, and what it changes.

A settings class is a frozen dataclass that pydantic checks: unknown keys, values of another type or
out of range, and combinations that cannot work are refused, all at once, with a `SettingsError`.
The `Attributes:` of its docstring describe the fields; schema and page are printed from both.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import InitErrorDetails, PydanticCustomError

from ademvl.config.strict_types import checker, is_settings_class, strict

Changes = Literal["results", "training", "evaluation", "speed", "nothing"]
"""What a setting changes: `results` those of training and of evaluating its adapter; `training` the
adapter only; `evaluation` only what is computed with it; `speed` time and memory; `nothing` none of
these: names, labels, places."""

RELATION, REFUSED = "relation", "refused"
"""Types of pydantic's errors whose `text` says what is wrong: with several fields together, or with
one."""
_SAID, _RELATION = "setting", "_relation_keys"
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Class = TypeVar("Class", bound=type)
Method = TypeVar("Method", bound=Callable[..., Iterator[str]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field says of itself beside type and default; see `setting`.

    Attributes:
        changes: what depends on it; empty for a group, whose fields say it.
        is_group: whether it is one.
        bounds: `ge`, `gt`, `le`, `lt` with numbers.
        check: of the value alone.
        check_each: of each value in a list.
        omitted_at_default, unwritten_at_default, by_content, portable: see `setting`.
    """

    changes: Changes | Literal[""] = ""
    is_group: bool = False
    bounds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    check: Callable[[Any], None] | None = None
    check_each: Callable[[Any], None] | None = None
    omitted_at_default: bool = False
    unwritten_at_default: bool = False
    by_content: bool = False
    portable: bool = False

    @property
    def range(self) -> str:
        """The allowed range of a number in words, such as `>= 0 and < 1`; empty for any."""
        return " and ".join(
            f"{sign} {self.bounds[key]}" for key, sign in _SIGNS.items() if key in self.bounds
        )


def setting(
    *,
    changes: Changes,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    omitted_at_default: bool = False,
    unwritten_at_default: bool = False,
    by_content: bool = False,
    portable: bool = False,
    check: Callable[[Any], None] | None = None,
    check_each: Callable[[Any], None] | None = None,
    **bounds: float,
) -> Any:
    """Declare a setting.

    Args:
        changes: what depends on it: whether a change trains or evaluates anew, and all else that
            `influence.py` tells, follows from this.
        default: the value where none is given; without any default the key is required.
        default_factory: makes the default, where that is a mapping.
        omitted_at_default: the field came when results existed already, and its default changes
            none of them: settings are written without it where it has its default, so that those
            results stay valid.
        unwritten_at_default: the same, even where settings are written with every key.
        by_content: the name of a place or of another run: what is there is compared instead.
        portable: results depend on it, but an adapter may be used with another value than it was
            trained with.
        check: raises ValueError, with what is expected, for a value that is refused.
        check_each: the same for each value in a list, so that all wrong ones are told.
        bounds: of a number, or of those in a list or mapping: `ge`, `gt`, `le`, `lt`.

    Raises:
        TypeError: a bound has another name.
    """
    if unknown := [key for key in bounds if key not in _SIGNS]:
        raise TypeError(f"setting: no argument {unknown[0]!r}; bounds are {', '.join(_SIGNS)}")
    said = Setting(
        changes=changes,
        bounds=bounds,
        check=check,
        check_each=check_each,
        omitted_at_default=omitted_at_default,
        unwritten_at_default=unwritten_at_default,
        by_content=by_content,
        portable=portable,
    )
    return dataclasses.field(
        default=default, default_factory=default_factory, metadata={_SAID: said}
    )


def group(*, default_factory: Callable[[], Any], omitted_at_default: bool = False) -> Any:
    """Declare a group of settings, or a mapping of groups; their own fields say what they change.

    Args:
        default_factory: makes the group with its defaults.
        omitted_at_default: see `setting`.
    """
    said = Setting(is_group=True, omitted_at_default=omitted_at_default)
    return dataclasses.field(default_factory=default_factory, metadata={_SAID: said})


def setting_of(field: "dataclasses.Field[Any]") -> Setting:
    """Return what a field of a dataclass says of itself; nothing where it is no setting."""
    said: Setting = field.metadata.get(_SAID, Setting())
    return said


def relation(*keys: str) -> Callable[[Method], Method]:
    """Mark a method that yields what is wrong with several fields together.

    It runs when each of these fields is right; each text follows the path of the first one.
    """

    def marked(method: Method) -> Method:
        setattr(method, _RELATION, keys)
        return method

    return marked


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(setting, group, dataclasses.field)
)
def settings_class(cls: Class) -> Class:
    """Make a class one of settings, see the module.

    A field has one of the types that are checked strictly, ranges included:

    - `int`, `float`, `bool`, `str`, or a `Literal` of texts;
    - `tuple[T, ...]` or `Mapping[str, T]`, of any of these or of a settings class;
    - each of these `| None`;
    - by `group(...)`: a settings class, or a `Mapping[str, T]` of one;
    - `Annotated` with validators of pydantic's, which then stand alone: without bounds.

    Raises:
        TypeError: a field does not say what it changes, has another type, or bounds without
            numbers; a relation names a field that is not there.
    """
    for name, hint in _own_hints(cls).items():
        field = cls.__dict__.get(name)
        said = setting_of(field) if isinstance(field, dataclasses.Field) else Setting()
        if not said.changes and not (said.is_group and _holds_settings(hint)):
            raise TypeError(
                f"{cls.__qualname__}.{name}: does not say what it changes; declare it by "
                "setting(changes=...), a group of settings by group(...)"
            )
        if hint is object:
            raise TypeError(f"{cls.__qualname__}.{name}: type object is not checked")
    return record_class(cls)


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(setting, group, dataclasses.field)
)
def record_class(cls: Class) -> Class:
    """Make a class one of records of a data file, checked as strictly as settings are."""
    described = attribute_descriptions(cls)
    annotations = inspect.get_annotations(cls)
    for name, hint in _own_hints(cls).items():
        field = cls.__dict__.get(name)
        said = setting_of(field) if isinstance(field, dataclasses.Field) else Setting()
        about = Field(
            description=described.get(name),
            json_schema_extra={"x-changes": said.changes} if said.changes else None,
        )
        checks = [AfterValidator(checker(said.check))] if said.check else []
        try:
            checked = strict(hint, bounds=said.bounds, check_each=said.check_each)
        except TypeError as error:
            raise TypeError(f"{cls.__qualname__}.{name}: {error}") from None
        annotations[name] = Annotated[checked, about, *checks]
    cls.__annotations__ = annotations
    if _relations(cls):
        related: Any = cls
        related._check_relations = model_validator(mode="after")(_check_relations)
    made = pydantic_dataclass(frozen=True, kw_only=True, config=_STRICT)(cls)
    _check_relation_keys(made)
    _refuse_by_settings_error(made)
    return made  # type: ignore[return-value]


def _own_hints(cls: type) -> dict[str, Any]:
    """Return the annotations of a class's own fields."""
    hints = get_type_hints(cls, include_extras=True)
    return {
        name: hints[name]
        for name in inspect.get_annotations(cls)
        if get_origin(hints[name]) is not ClassVar
    }


def _holds_settings(hint: Any) -> bool:
    """Whether a type is a settings class, or a mapping of such."""
    arguments = {Mapping: get_args(hint)[1:], Annotated: get_args(hint)}
    return is_settings_class((*arguments.get(get_origin(hint), ()), hint)[0])


def attribute_descriptions(cls: type) -> dict[str, str]:
    """Read `Attributes:` of a Google-style docstring: name -> one line of text."""
    text = (cls.__doc__ or "").partition("Attributes:")[2]
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


def _relations(cls: type) -> list[Any]:
    """Return the methods that `relation` marked, those of base classes too."""
    return [getattr(cls, name) for name in dir(cls) if hasattr(getattr(cls, name), _RELATION)]


def _check_relation_keys(cls: type) -> None:
    known = [field.name for field in dataclasses.fields(cls)]
    for method in _relations(cls):
        if unknown := [key for key in getattr(method, _RELATION) if key not in known]:
            raise TypeError(
                f"{cls.__qualname__}.{method.__name__}: relation of {unknown[0]!r}, which is no "
                f"field; fields are {', '.join(known)}"
            )


def _check_relations(settings: Any) -> Any:
    errors = []
    for method in _relations(type(settings)):
        keys = getattr(method, _RELATION)
        for text in method(settings):
            kind = PydanticCustomError(RELATION, "{text}", {"text": text, "keys": keys})
            value = getattr(settings, keys[0])
            errors.append(InitErrorDetails(type=kind, loc=(keys[0],), input=value))
    if errors:
        raise ValidationError.from_exception_data(type(settings).__name__, errors)
    return settings


def _refuse_by_settings_error(cls: Any) -> None:
    """Let the constructor raise the error that users are shown instead of pydantic's."""
    checked = cls.__init__

    @functools.wraps(checked)
    def __init__(self: Any, **values: Any) -> None:
        try:
            checked(self, **values)
        except ValidationError as error:
            from ademvl.config.findings import refuse

            raise refuse(error, cls, values) from None

    cls.__init__ = __init__
