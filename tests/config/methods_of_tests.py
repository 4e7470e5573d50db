"""A method in a single file, as tests register it."""

from dataclasses import dataclass
from typing import Literal

from ademvl.config.method import MethodSettings


@dataclass(frozen=True, kw_only=True)
class Blind(MethodSettings):
    """Sees nothing.

    Attributes:
        width: of what it trains.
    """

    name: Literal["blind"] = "blind"
    width: int = 8
