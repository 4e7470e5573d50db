"""A method in a single file, as tests register it."""

from typing import Literal

from ademvl.config.method import MethodSettings
from ademvl.config.setting import setting, settings_class


@settings_class
class Blind(MethodSettings):
    """Sees nothing.

    Attributes:
        width: of what it trains.
        shuffle: in training.
        temperature: of what it says.
        chunk: rows at once.
    """

    name: Literal["blind"] = setting(changes="results", default="blind")
    width: int = setting(changes="results", default=8, ge=1)
    shuffle: bool = setting(changes="training", default=True)
    temperature: float = setting(changes="evaluation", default=1.0, gt=0)
    chunk: int = setting(changes="speed", default=4, ge=1)
