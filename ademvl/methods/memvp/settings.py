"""Settings of MemVP, with the source of each default."""

from collections.abc import Iterator
from typing import Literal

from ademvl.config.method import ClipAdapterSettings, MethodSettings
from ademvl.config.setting import group, setting, settings_class


@settings_class
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

    name: Literal["memvp"] = setting(changes="results", default="memvp")
    alpha: float = setting(changes="results", default=0.1)
    beta: float = setting(changes="results", default=0.01)
    dropout: float = setting(changes="training", default=0.1, ge=0, lt=1)
    table_rows: int = setting(changes="results", default=320, ge=1, le=1_000_000)
    projection_width: int = setting(changes="results", default=128, ge=1, le=1_000_000)
    clip_adapter: ClipAdapterSettings = group(default_factory=ClipAdapterSettings)

    def tower_findings(self, num_grid_tokens: int) -> Iterator[str]:
        """Yield that the tables are too short for the grid."""
        if self.table_rows < num_grid_tokens:
            yield (
                f"table_rows: {self.table_rows}, expected at least the {num_grid_tokens} tokens "
                "of the tower's grid"
            )
