"""Types of settings as pydantic checks them: strictly, but numbers and truths may arrive as text.

Snakemake's `--config` passes text, and YAML 1.1 reads 9e-3 as text. Otherwise 1.0 is no integer, 1
no truth and no text. A mapping's keys are left to those who know which names are possible.
"""

import functools
import operator
import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, Strict

_TRUTHS = {"true": True, "false": False}


def strict(hint: Any, *, bounds: Mapping[str, float] | None = None, reads_text: bool = True) -> Any:
    """Return a type that pydantic checks strictly.

    Args:
        hint: annotation of a field; one that is `Annotated` already is left as it is.
        bounds: of a number, or of those in a list or mapping: `ge`, `gt`, `le`, `lt`.
        reads_text: convert text to numbers and truths; not where text is one of several types.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    subscript: Any = {tuple: tuple, Mapping: Mapping}.get(origin, Annotated)
    if hint in _READERS:
        limits = [_limits(**bounds)] if bounds else []
        reader = [BeforeValidator(_READERS[hint])] if reads_text else []
        return subscript[(hint, Strict(), *limits, *reader)]
    if hint is str:
        return Annotated[str, Strict()]
    if origin is tuple:
        return subscript[(strict(arguments[0], bounds=bounds, reads_text=reads_text), ...)]
    if origin is Mapping:
        return subscript[Any, strict(arguments[1], bounds=bounds)]
    if origin in (Union, types.UnionType):
        options = [strict(argument, reads_text=False) for argument in arguments]
        return functools.reduce(operator.or_, options)
    return hint


def _limits(
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    return Field(ge=ge, gt=gt, le=le, lt=lt)


def _integer(value: Any) -> Any:
    return _converted(value, int)


def _number(value: Any) -> Any:
    return _converted(value, float)


def _truth(value: Any) -> Any:
    return _TRUTHS.get(value.lower(), value) if isinstance(value, str) else value


def _converted(value: Any, kind: type[int] | type[float]) -> Any:
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


_READERS: Mapping[Any, Any] = {int: _integer, float: _number, bool: _truth}
