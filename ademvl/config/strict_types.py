"""Types of settings as pydantic checks them: strictly, but numbers and truths may arrive as text.

Snakemake's `--config` passes text, and YAML 1.1 reads 9e-3 as text. Otherwise 1.0 is no integer, 1
no truth and no text. A mapping's keys are left to those who know which names are possible.

Types that could not be checked so are refused when a class is made: a range that is silently not
looked at would be worse than none.
"""

import dataclasses
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field, Strict

HANDLED = (
    "int, float, bool, str, Literal of texts, a settings class, tuple[T, ...] and Mapping[str, T] "
    "of one such type T, each also `| None`"
)
"""Types that fields may have."""
_LARGEST = 2**63 - 1
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""All but tab and line feed, and halves of characters."""
_TRUTHS = {"true": True, "false": False}


def strict(
    hint: Any,
    *,
    bounds: Mapping[str, float],
    check_each: Callable[[Any], None] | None = None,
) -> Any:
    """Return a type that pydantic checks strictly.

    Args:
        hint: annotation of a field; one that is `Annotated` already is left as it is.
        bounds: of a number, or of those in a list or mapping: `ge`, `gt`, `le`, `lt`.
        check_each: raises ValueError for a value in a list that is refused.

    Raises:
        TypeError: it is none of `HANDLED`, or holds no number that the bounds could be of.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if (inner := without_none(hint)) is not hint:
        return strict(inner, bounds=bounds, check_each=check_each) | None
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        items: Any = strict(arguments[0], bounds=bounds)
        if check_each:
            items = Annotated[items, AfterValidator(checker(check_each))]
        return tuple[items, ...]
    if check_each:
        raise TypeError(f"{_name(hint)} is no list, each value of which could be checked")
    if origin is Mapping and arguments[0] is str:
        values: Any = strict(arguments[1], bounds=bounds)
        return Mapping[Any, values]
    if hint in (int, float):
        limits = [_limits(**bounds)] if bounds else []
        return Annotated[(hint, Strict(), *limits, BeforeValidator(_READERS[hint]))]
    if bounds:
        raise TypeError(f"{_name(hint)} is no number, which {', '.join(bounds)} could be of")
    if hint is bool:
        return Annotated[bool, Strict(), BeforeValidator(_truth)]
    if hint is str:
        return Annotated[str, Strict(), AfterValidator(_text)]
    is_texts = origin is Literal and all(isinstance(value, str) for value in arguments)
    if is_texts or origin is Annotated or hint is object or is_settings_class(hint):
        return hint
    raise TypeError(f"type {_name(hint)} is not checked; possible: {HANDLED}")


def without_none(hint: Any) -> Any:
    """Return the type beside None of one that may be None, and any other type as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        others = [argument for argument in get_args(hint) if argument is not types.NoneType]
        if len(others) == 1:
            return others[0]
    return hint


def is_settings_class(hint: Any) -> bool:
    """Whether a type is made by `settings_class` or `record_class`."""
    is_class = isinstance(hint, type) and dataclasses.is_dataclass(hint)
    return is_class and "__pydantic_validator__" in vars(hint)


def checker(check: Callable[[Any], None]) -> Callable[[Any], Any]:
    """Return a function for pydantic's validators that checks a value and gives it back."""

    def checked(value: Any) -> Any:
        check(value)
        return value

    return checked


def _name(hint: Any) -> str:
    return hint.__qualname__ if type(hint) is type else str(hint)


def _limits(
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    return Field(ge=ge, gt=gt, le=le, lt=lt)


def _integer(value: Any) -> Any:
    found = _converted(value, int)
    if isinstance(found, int) and abs(found) > _LARGEST:
        raise ValueError(f"{found}, expected a number of at most {len(str(_LARGEST))} digits")
    return found


def _number(value: Any) -> Any:
    return _converted(value, float)


def _text(value: str) -> str:
    if _NO_TEXT.search(value):
        raise ValueError(f"{value!a}, expected text without control characters")
    return value


def _truth(value: Any) -> Any:
    return _TRUTHS.get(value.lower(), value) if isinstance(value, str) else value


def _converted(value: Any, kind: type[int] | type[float]) -> Any:
    if isinstance(value, str) and value.isascii() and "_" not in value:  # Python takes 1_0, too
        try:
            return kind(value)
        except ValueError:
            pass
    return value


_READERS: Mapping[Any, Any] = {int: _integer, float: _number}
