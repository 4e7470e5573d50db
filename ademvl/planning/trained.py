"""Numbers of trained parameters by formula, in no time; `parameter_counts.py` counts real modules.

A test holds the two against each other for every study's settings.
"""

from ademvl.methods.adem.settings import AdemSettings
from ademvl.planning.shapes import VisionShape


def trained_parameters(
    settings: AdemSettings, *, llm_width: int, vision: VisionShape, online: bool
) -> dict[str, int]:
    """Count the trained parameters of each part (paper: arXiv 2410.17779; `AdemAdapter`).

    Args:
        settings: of the method.
        llm_width: d.
        vision: sizes of the tower.
        online: with bottleneck adapters inside the tower.
    """
    width, hidden = vision.width, settings.projection_width
    projection = width * hidden + hidden + hidden * llm_width + llm_width
    has_fusion = settings.fusion != "none"
    parts: dict[str, int] = {}
    if has_fusion:
        table = settings.num_visual_tokens * llm_width
        parts |= {"key_table": table, "value_table": table}
    if has_fusion or settings.visual_tokens:
        parts["grid_projection"] = projection
    if settings.cls:
        parts["cls_projection"] = projection
    if online:
        adapted = vision.blocks - (0 if settings.clip_adapter.last_block else 1)
        parts["clip_adapters"] = adapted * 2 * width * settings.clip_adapter.dim
    return parts
