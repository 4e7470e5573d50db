"""Which class computes a method: found from its settings, beside which it stands."""

import importlib
from collections.abc import Callable
from typing import TypeVar

from ademvl.config.method import MethodSettings
from ademvl.config.methods_by_name import trained_module
from ademvl.methods.base import DecoderShape, Method
from ademvl.vision.tower import TowerShape

_Class = TypeVar("_Class", bound=type[Method])
_CLASSES: dict[type[MethodSettings], type[Method]] = {}


def implements(settings_class: type[MethodSettings]) -> Callable[[_Class], _Class]:
    """Return a decorator that makes a class the one that computes a method of these settings."""

    def register(method_class: _Class) -> _Class:
        _CLASSES[settings_class] = method_class
        return method_class

    return register


def build_method(
    settings: MethodSettings, *, llm: DecoderShape, tower: TowerShape, trains_tower: bool
) -> Method:
    """Build a method's modules, uninitialised; see `Method` for the arguments.

    Raises:
        SettingsError: the settings do not fit the models.
        TypeError: nothing computes a method of these settings, or it has buffers.
    """
    settings_class, module = type(settings), trained_module(settings)
    if settings_class not in _CLASSES:
        importlib.import_module(module)
    if settings_class not in _CLASSES:
        raise TypeError(f"{module}: nothing there implements {settings_class.__qualname__}")
    method = _CLASSES[settings_class](settings, llm=llm, tower=tower, trains_tower=trains_tower)
    if buffers := [name for name, _ in method.named_buffers()]:
        raise TypeError(
            f"{settings_class.__qualname__}: an adapter holds parameters only, and the method has "
            f"the buffers {', '.join(buffers)}; compute them anew, or make them parameters"
        )
    return method
