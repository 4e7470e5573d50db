"""Ranges of numbers in settings."""

from collections.abc import Callable, Mapping, Sequence

from ademvl.errors import SettingsError

_CONDITIONS: Mapping[str, Callable[[float], bool]] = {
    "> 0": lambda value: value > 0,
    ">= 0": lambda value: value >= 0,
    ">= 1": lambda value: value >= 1,
    ">= 0 and < 1": lambda value: 0 <= value < 1,
}


def check_ranges(group: str, settings: object, ranges: Mapping[str, Sequence[str]]) -> None:
    """Refuse a number outside its range.

    Args:
        group: where the settings stand in a study file, for the message.
        settings: object that has the keys as attributes.
        ranges: keys by range: `> 0`, `>= 0`, `>= 1` or `>= 0 and < 1`.

    Raises:
        SettingsError: names the first such key, its value and range.
    """
    for expected, keys in ranges.items():
        for key in keys:
            value = getattr(settings, key)
            if not _CONDITIONS[expected](value):
                raise SettingsError(f"{group}.{key}: {value}, expected {expected}")
