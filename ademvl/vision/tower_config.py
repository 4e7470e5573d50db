"""Configuration of a tower by its name, read without torch, open_clip or weights."""

import importlib.util
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ademvl.config.mini_backbones import MINI_TOWERS
from ademvl.errors import SettingsError
from ademvl.storage.files import read_json

_REMEDY = "Reinstall the package, or run the rule mini_backbones."


def is_plain(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of a vision transformer of open_clip itself, as CLIP has it."""
    vision = config["vision_cfg"]
    return (
        bool(vision.get("patch_size"))
        and isinstance(vision.get("layers"), int)
        and not vision.get("timm_model_name")
        and not vision.get("attentional_pool")
    )


def tower_config(name: str) -> Mapping[str, Any]:
    """Return a tower's configuration in open_clip's keys, `vision_cfg` and `embed_dim` among them.

    Its file inside open_clip is read without importing it, which takes seconds.

    Raises:
        SettingsError: open_clip knows no such tower.
    """
    if name in MINI_TOWERS:
        return dict(read_json(MINI_TOWERS[name] / "config.json", remedy=_REMEDY))
    imported = sys.modules.get("open_clip")
    if imported is not None and imported.get_model_config(name) is not None:
        return dict(imported.get_model_config(name))
    spec = importlib.util.find_spec("open_clip")
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = [Path(place) / "model_configs" / f"{name}.json" for place in places]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        known = [file.stem for place in places for file in Path(place).glob("model_configs/*.json")]
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise SettingsError(
            f"backbones.tower: open_clip knows no model {name!r}; {hint}"
            "open_clip.list_models() has all"
        )
    return dict(read_json(path, remedy=_REMEDY))
