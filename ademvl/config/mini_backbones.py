"""The backbones that ship with the package: their names in settings, and where they lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

_WEIGHTS = Path(__file__).parents[1] / "backbones" / "weights"

MINI_LLMS: Mapping[str, Path] = {
    "mini": _WEIGHTS / "mini_llm",
    "mini_shapes": _WEIGHTS / "mini_shapes_llm",
    "mini_shapes_slots": _WEIGHTS / "mini_shapes_slots_llm",
}
"""Folders of the language models, by name."""
MINI_TOWERS: Mapping[str, Path] = {
    "mini": _WEIGHTS / "mini_clip",
    "mini_shapes": _WEIGHTS / "mini_shapes_clip",
}
"""Folders of the towers, by name."""
MINI_BACKBONES: Mapping[Literal["llm", "tower"], Mapping[str, Path]] = {
    "llm": MINI_LLMS,
    "tower": MINI_TOWERS,
}
