"""Settings of MemVP, with the source of each default."""

from dataclasses import dataclass
from typing import Literal

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.config.ranges import check_ranges


@dataclass(frozen=True, kw_only=True)
class MemvpSettings(MethodSettings):
    """MemVP (arXiv 2405.05615); defaults are those of its released scripts for LLaMA-7B.

    Attributes:
        name: of the method.
        alpha: factor of what the memory adds to each layer; 0.1 (released scripts).
        beta: factor of the projected image tokens; 0.01 (released implementation).
        dropout: on the scores, training only; 0.1 (released implementation).
        table_rows: rows of the two tables, at least the tower's grid tokens; 320 for 7B and 400
            for 13B (released scripts). Rows behind the grid's are memory that no image changes.
        projection_width: hidden width of the projection; 128.
        clip_adapter: adapters inside the tower, with online features.
    """

    name: Literal["memvp"] = "memvp"
    alpha: float = 0.1
    beta: float = 0.01
    dropout: float = 0.1
    table_rows: int = 320
    projection_width: int = 128
    clip_adapter: ClipAdapterSettings = ClipAdapterSettings()

    def __post_init__(self) -> None:
        ranges = {">= 1": ("table_rows", "projection_width"), ">= 0 and < 1": ("dropout",)}
        check_ranges("method", self, ranges)
