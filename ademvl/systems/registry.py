"""Which classes are a system: found from its settings, beside which they stand."""

import importlib
from collections.abc import Callable
from typing import TypeVar

import torch

from ademvl.config.method import MethodSettings
from ademvl.config.run import RunSettings
from ademvl.systems.pretrained import PretrainedSystem, SystemText

_Class = TypeVar("_Class", bound=type[PretrainedSystem])
_CLASSES: dict[type[MethodSettings], tuple[type[SystemText], type[PretrainedSystem]]] = {}


def implements(
    settings_class: type[MethodSettings], *, text: type[SystemText]
) -> Callable[[_Class], _Class]:
    """Return a decorator that makes a class, and that of its text, those of a system."""

    def register(system_class: _Class) -> _Class:
        _CLASSES[settings_class] = (text, system_class)
        return system_class

    return register


def text_of(run: RunSettings) -> SystemText:
    """Return the text of a run's system; no weights are read.

    Raises:
        SettingsError, WeightsError: see `SystemText`.
    """
    return _classes_of(run.method)[0](run)


def load_system(run: RunSettings, device: torch.device) -> PretrainedSystem:
    """Load a run's system.

    Raises:
        SettingsError, WeightsError, ToolError: see `PretrainedSystem`.
    """
    return _classes_of(run.method)[1](run, device)


def _classes_of(
    settings: MethodSettings,
) -> tuple[type[SystemText], type[PretrainedSystem]]:
    settings_class = type(settings)
    module = f"{settings_class.__module__.rpartition('.')[0]}.system"
    if settings_class not in _CLASSES:
        importlib.import_module(module)
    if settings_class not in _CLASSES:
        raise TypeError(f"{module}: nothing there implements {settings_class.__qualname__}")
    return _CLASSES[settings_class]
