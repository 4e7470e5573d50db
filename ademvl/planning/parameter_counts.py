"""Exact numbers of trained parameters by part, from real modules on torch's `meta` device."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ademvl.config.method import MethodSettings
from ademvl.methods.base import DecoderShape
from ademvl.methods.registry import build_method
from ademvl.planning.possible import refuse_impossible
from ademvl.vision.tower import TowerShape

# The paper's backbones: LLaMA (arXiv 2302.13971, table 2) and CLIP ViT-L/14.
LLAMAS = {
    "LLaMA-7B": DecoderShape(
        width=4096, layers=32, heads=32, kv_heads=32, head_dim=128, ffn_width=11008
    ),
    "LLaMA-13B": DecoderShape(
        width=5120, layers=40, heads=40, kv_heads=40, head_dim=128, ffn_width=13824
    ),
}
VIT_L = TowerShape(width=1024, num_blocks=24, image_size=224, num_grid_tokens=256, output_width=768)


def count_parameters(
    settings: MethodSettings, *, llm: DecoderShape, tower: TowerShape, online: bool
) -> dict[str, int]:
    """Count the trained parameters of each part.

    Args:
        llm: sizes of the language model.
        tower: sizes of the vision tower.
        online: with trained modules inside the tower, where the method has any.

    Returns:
        Parameters by part (such as tables, projections, `clip_adapters`), in order.
    """
    with torch.device("meta"):
        method = build_method(settings, llm=llm, tower=tower, trains_tower=online)
    parts: dict[str, int] = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            part = name.partition(".")[0]
            parts[part] = parts.get(part, 0) + parameter.numel()
    return parts


def print_study_counts(study_file: Path) -> None:
    """Print the counts of every run of a study.

    Raises:
        SettingsError: the study is wrong.
        WeightsError: a language model is not at hand, so that its width is not known.
    """
    from ademvl.config.study import load_study
    from ademvl.llm.source import llm_config
    from ademvl.vision.tower import tower_shape

    study = load_study(study_file)
    refuse_impossible(study)
    for run in {run.name: run for run in study.runs}.values():
        if run.method.kind != "method":
            continue  # nothing of it is trained here
        parts = count_parameters(
            run.method,
            llm=DecoderShape.of(llm_config(run.backbones)),
            tower=tower_shape(run.backbones),
            online=run.features.mode == "online",
        )
        print_row(run.name, parts)


def print_row(label: str, parts: Mapping[str, int]) -> None:
    """Print a sum and its parts."""
    print(f"{label:36} {sum(parts.values()):>13,}")
    for part, count in parts.items():
        print(f"    {part:32} {count:>13,}")
