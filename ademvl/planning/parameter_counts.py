"""Exact numbers of trained parameters by part, from real modules on torch's `meta` device."""

from collections.abc import Mapping
from pathlib import Path

from ademvl.methods.adem.settings import AdemSettings, as_adem

# Widths and depths of the paper's backbones: LLaMA (arXiv 2302.13971, table 2) and CLIP ViT-L/14.
LLAMA_WIDTHS = {"LLaMA-7B": 4096, "LLaMA-13B": 5120}
VIT_L_WIDTH, VIT_L_BLOCKS = 1024, 24


def count_parameters(
    settings: AdemSettings, *, llm_width: int, tower_width: int, tower_blocks: int, online: bool
) -> dict[str, int]:
    """Count the trained parameters of each part.

    Args:
        settings: of the method.
        llm_width: d.
        tower_width: C.
        tower_blocks: residual blocks of the vision tower.
        online: with bottleneck adapters inside the tower.

    Returns:
        Parameters by part (tables, projections, `clip_adapters`), in order.
    """
    import torch

    from ademvl.methods.adem.method import AdemAdapter
    from ademvl.methods.tower_adapters import ClipAdapter

    parts: dict[str, int] = {}
    with torch.device("meta"):
        adapter = AdemAdapter(settings, llm_width=llm_width, tower_width=tower_width)
        for name, parameter in adapter.named_parameters():
            part = name.partition(".")[0]
            parts[part] = parts.get(part, 0) + parameter.numel()
        if online:
            one = ClipAdapter(settings.clip_adapter, tower_width=tower_width)
            adapted = tower_blocks - (0 if settings.clip_adapter.last_block else 1)
            parts["clip_adapters"] = adapted * sum(p.numel() for p in one.parameters())
    return parts


def print_paper_counts() -> None:
    """Print the counts of the paper's models and of two rows of its component ablation."""
    single = AdemSettings(scales=(256,), cls=False)
    rows = [
        ("LLaMA-7B", "LLaMA-7B", AdemSettings(), True),
        ("LLaMA-13B", "LLaMA-13B", AdemSettings(), True),
        ("LLaMA-7B, one scale, no [cls]", "LLaMA-7B", single, True),
        ("LLaMA-7B, one scale", "LLaMA-7B", AdemSettings(scales=(256,)), True),
        ("LLaMA-7B, cached features", "LLaMA-7B", AdemSettings(), False),
    ]
    for label, llm, settings, online in rows:
        parts = count_parameters(
            settings,
            llm_width=LLAMA_WIDTHS[llm],
            tower_width=VIT_L_WIDTH,
            tower_blocks=VIT_L_BLOCKS,
            online=online,
        )
        _print_row(label, parts)


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
    for run in {run.name: run for run in study.runs}.values():
        shape = tower_shape(run.backbones)
        parts = count_parameters(
            as_adem(run.method),
            llm_width=llm_config(run.backbones).hidden_size,
            tower_width=shape.width,
            tower_blocks=shape.num_blocks,
            online=run.features.mode == "online",
        )
        _print_row(run.name, parts)


def _print_row(label: str, parts: Mapping[str, int]) -> None:
    print(f"{label:32} {sum(parts.values()):>10,}")
    for part, count in parts.items():
        print(f"    {part:28} {count:>10,}")
