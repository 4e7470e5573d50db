"""Fusion maps: which patches of an image each word kept (the paper's figure 3).

The words are those of the question, or of the caption that the model generates. The scores are
recomputed from the trained adapter; nothing of them is kept during training.
"""

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ademvl.config.run import RunSettings
from ademvl.config.settings_files import read_run
from ademvl.config.tasks import all_facts, facts_of
from ademvl.errors import SettingsError
from ademvl.evaluation.finite import refuse_not_finite
from ademvl.reporting.figures.plotting import plotting, save_figure
from ademvl.reporting.fusion_maps.drawing import WordMap, draw_fusion_map
from ademvl.reporting.fusion_maps.items import (
    Choice,
    MapItem,
    caption_with_words,
    choose_items,
    words_of_question,
)
from ademvl.reporting.fusion_maps.words import WordToken
from ademvl.runs.run_files import RunFiles
from ademvl.storage.files import write_json
from ademvl.storage.folders import folder_built_aside

if TYPE_CHECKING:
    from ademvl.data.rows import TokenizedExample
    from ademvl.data.tokenizer import Tokenizer
    from ademvl.model.vision_language import VisionLanguageModel
    from ademvl.vision.features.source import VisualSource

LIST_FILE = "fusion_maps.json"
_DIGITS = 5


def write_fusion_maps(run_dir: Path, output_dir: Path, choice: Choice) -> None:
    """Draw fusion maps of test images with their questions, or with generated captions.

    Args:
        run_dir: a trained run that sees images through the adaptive fusion.
        output_dir: gets item_1.png ... and fusion_maps.json, with the numbers; appears complete.
        choice: which items.

    Raises:
        SettingsError: the run has no fusion maps, or a chosen id is unknown.
        WeightsError: the adapter is missing or does not fit.
        DataError: the data set or an image is missing or damaged.
    """
    from ademvl.llm.tokenizer import load_llm_tokenizer
    from ademvl.machine.cpu_kernels import fast_cpu

    run = read_run(run_dir)
    if not run.has_fusion_maps:
        drawn = [facts.name for facts in all_facts().values() if facts.has_fusion_maps]
        raise SettingsError(
            f"{run_dir}: fusion maps need task {' or '.join(drawn)}, images shown and a "
            "method with scores, as adem is with fusion: adem; found "
            f"{run.task}, {run.images} and method {run.method.name} "
            f"{'with' if run.method.draws_scores else 'without'} scores; choose another run"
        )
    tokenizer = load_llm_tokenizer(run.backbones)
    items = choose_items(run, tokenizer, choice)
    model, source = _load(run_dir, run, [item.image for item in items])
    entries = (LIST_FILE, *(picture.name for picture in output_dir.glob("item_*.png")))
    records = []
    with folder_built_aside(output_dir, entries=entries) as folder, plotting(), fast_cpu():
        for number, item in enumerate(items, 1):
            record, words = _read_item(model, source, tokenizer, item, run)
            picture = folder / f"item_{number}"
            figure = draw_fusion_map(item.image, _title(record), words)
            save_figure(figure, picture, suffixes=["png"])
            records.append({**record, "image": str(item.image), "picture": f"{picture.name}.png"})
        grids = model.method.score_grids()
        content = {
            "run": run.name,
            "seed": run.seed,
            "gamma": grids.gamma,
            "scales": list(grids.scales),
            "items": records,
        }
        write_json(folder / LIST_FILE, content)


def _load(
    run_dir: Path, run: RunSettings, images: Sequence[Path]
) -> tuple["VisionLanguageModel", "VisualSource"]:
    from ademvl.model.adapter_file import load_adapter
    from ademvl.model.build import build_model
    from ademvl.runs.adapter_folder import check_settings
    from ademvl.runs.adapter_training import check_training
    from ademvl.vision.features.source import open_visual_source

    adapter = RunFiles(run_dir).adapter
    check_settings(adapter, run)
    check_training(adapter, run)
    model = build_model(run).eval()
    load_adapter(adapter, model)
    return model, open_visual_source(
        run, images, tower=model.tower, device=model.device, progress=False
    )


def _read_item(
    model: "VisionLanguageModel",
    source: "VisualSource",
    tokenizer: "Tokenizer",
    item: MapItem,
    run: RunSettings,
) -> tuple[dict[str, Any], list[WordMap]]:
    """Return what the list file says of an item, and what is drawn of it."""
    import torch

    from ademvl.machine.precision import autocast

    row, record = item.row, dict(item.record)
    with torch.inference_mode(), autocast(model.device, run.backbones.precision):
        if facts_of(run.task).shown_as == "questions":
            tokens = words_of_question(tokenizer, row)
        else:
            row, record["caption"], tokens = caption_with_words(model, source, tokenizer, row, run)
        words, record["words"] = read_word_maps(model, source, row, tokens)
    return record, words


def read_word_maps(
    model: "VisionLanguageModel",
    source: "VisualSource",
    row: "TokenizedExample",
    tokens: Sequence[WordToken],
) -> tuple[list[WordMap], list[dict[str, Any]]]:
    """Recompute one row's scores; returns what is drawn, and the same as numbers, word by word.

    Raises:
        WeightsError: scores are not finite.
    """
    from ademvl.data.collate import collate

    batch = collate([row], trim_after_labels=False)
    scores, is_kept = model.fusion_scores(batch, source.for_batch(batch))  # (L, 1, T, N)
    refuse_not_finite(batch.item_ids, scores.isfinite().all().view(1), what="scores of its words")
    words = []
    records = []
    scales = model.method.score_grids().scales
    ends = np.cumsum(scales)
    for token in tokens:
        by_scale = np.split(scores[:, 0, token.position].double().cpu().numpy(), ends[:-1], axis=1)
        kept_by_scale = np.split(is_kept[:, 0, token.position].cpu().numpy(), ends[:-1], axis=1)
        word = WordMap(
            token.word,
            dict(zip(scales, by_scale, strict=True)),
            dict(zip(scales, kept_by_scale, strict=True)),
        )
        words.append(word)
        records.append({"word": token.word, "position": token.position, "scales": _numbers(word)})
    return words, records


def _numbers(word: WordMap) -> list[dict[str, Any]]:
    """Render a word's map for the list file: per scale and layer, patches row by row."""
    return [
        {
            "scale": scale,
            "grid": isqrt(scale),
            "layers": [
                {
                    "kept_fraction": round(float(kept.mean()), _DIGITS),
                    "kept": "".join("1" if flag else "0" for flag in kept),
                    "scores": " ".join(f"{score:.{_DIGITS}g}" for score in layer_scores),
                }
                for layer_scores, kept in zip(word.scores[scale], word.is_kept[scale], strict=True)
            ],
        }
        for scale in word.scores
    ]


def _title(record: dict[str, Any]) -> str:
    if "question" in record:
        return f"{record['question']}  ({record['answer']})"
    return f"“{record['caption']}”"
