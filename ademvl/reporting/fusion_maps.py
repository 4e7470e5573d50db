"""Fusion maps: which patches of an image each word of its question kept (the paper's figure 3).

The scores are recomputed from the trained adapter; nothing of them is kept during training.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ademvl.config.run import RunSettings
from ademvl.config.study import read_run
from ademvl.errors import SettingsError
from ademvl.files import write_json
from ademvl.randomness import derive_seed
from ademvl.reporting.figures import plotting, save_figure
from ademvl.reporting.fusion_drawing import WordMap, draw_fusion_map
from ademvl.reporting.fusion_words import question_words

if TYPE_CHECKING:
    from ademvl.data.collate import TokenizedExample
    from ademvl.data.scienceqa import Problem
    from ademvl.data.tokenizer import SentencePieceTokenizer
    from ademvl.model import VisionLanguageModel
    from ademvl.visual_source import VisualSource

LIST_FILE = "fusion_maps.json"
_DIGITS = 5


@dataclass(frozen=True)
class _Item:
    """A question with an image, and its row of tokens."""

    problem: "Problem"
    image: Path
    row: "TokenizedExample"


def write_fusion_maps(run_dir: Path, output_dir: Path, *, num_items: int, seed: int) -> None:
    """Draw fusion maps of random test questions with an image.

    Args:
        run_dir: a trained ScienceQA run that sees images through the adaptive fusion.
        output_dir: gets item_1.png ... and fusion_maps.json, written last, with the numbers.
        num_items: pictures; fewer where the split has fewer questions with an image.
        seed: of the choice.

    Raises:
        SettingsError: the run has no fusion maps.
        WeightsError: the adapter is missing or does not fit.
        DataError: the data set or an image is missing or damaged.
    """
    run = read_run(run_dir)
    if run.task != "scienceqa" or run.images != "shown" or run.method.fusion != "adem":
        raise SettingsError(
            f"{run_dir}: fusion maps need task scienceqa, images shown and method.fusion adem, "
            f"found {run.task}, {run.images} and {run.method.fusion}; choose another run"
        )
    tokenizer, items = _choose_items(run, num_items=num_items, seed=seed)
    model, source = _load(run_dir, run, [item.image for item in items])
    records = []
    with plotting():
        for number, item in enumerate(items, 1):
            words, numbers = read_word_maps(model, source, tokenizer, item.row, run.method.scales)
            picture = output_dir / f"item_{number}"
            save_figure(draw_fusion_map(item.image, _title(item), words), picture, suffixes=["png"])
            records.append(
                {
                    "question_id": item.problem.question_id,
                    "question": item.problem.question,
                    "answer": item.problem.choices[item.problem.answer_index],
                    "words": numbers,
                    "picture": f"{picture.name}.png",
                }
            )
    scales = list(run.method.scales)
    write_json(
        output_dir / LIST_FILE,
        {
            "run": run.name,
            "seed": run.seed,
            "gamma": run.method.gamma,
            "scales": scales,
            "items": records,
        },
    )


def _choose_items(
    run: RunSettings, *, num_items: int, seed: int
) -> tuple["SentencePieceTokenizer", list[_Item]]:
    from ademvl.data.collate import tokenize_examples
    from ademvl.data.examples import scienceqa_evaluation_examples
    from ademvl.data.scienceqa import load_scienceqa
    from ademvl.data.tokenizer import load_tokenizer
    from ademvl.llm.loading import llm_dir

    folder = llm_dir(run.backbones)
    if folder is None:
        raise SettingsError(
            f"backbones.llm: {run.backbones.llm} is no folder; fusion maps need one that holds "
            "weights and tokenizer.model"
        )
    dataset = load_scienceqa(Path(run.data_dir))
    split = run.evaluation.split
    examples = scienceqa_evaluation_examples(dataset, split, run.prompts, run.images)
    with_image = [example for example in examples if example.image is not None]
    generator = random.Random(derive_seed(seed, "fusion maps", run.name))
    chosen = generator.sample(with_image, min(num_items, len(with_image)))
    tokenizer = load_tokenizer(folder)
    rows = tokenize_examples(
        tokenizer,
        chosen,
        max_seq_len=run.prompts.max_seq_len,
        num_slots=run.method.num_slots,
        with_prefix=run.method.num_slots > 0,
    )
    problems = {problem.question_id: problem for problem in dataset.split(split)}
    return tokenizer, [
        _Item(problems[row.item_id], row.image, row) for row in rows if row.image is not None
    ]


def _load(
    run_dir: Path, run: RunSettings, images: Sequence[Path]
) -> tuple["VisionLanguageModel", "VisualSource"]:
    from ademvl.adapter_file import load_adapter
    from ademvl.model import build_model
    from ademvl.visual_source import open_visual_source

    model = build_model(run).eval()
    load_adapter(run_dir / "adapter", model)
    return model, open_visual_source(run, model, images, progress=False)


def read_word_maps(
    model: "VisionLanguageModel",
    source: "VisualSource",
    tokenizer: "SentencePieceTokenizer",
    row: "TokenizedExample",
    scales: Sequence[int],
) -> tuple[list[WordMap], list[dict[str, Any]]]:
    """Recompute one row's scores; returns what is drawn, and the same as numbers, word by word."""
    from ademvl.data.collate import collate

    batch = collate([row], trim_after_labels=False)
    scores, is_kept = model.fusion_scores(batch, source.for_batch(batch))  # (L, 1, T, N)
    first = row.slot_start + row.num_slots if row.slot_start >= 0 else 1
    words = []
    records = []
    ends = np.cumsum(scales)
    for token in question_words(tokenizer, row.ids.tolist(), first_text_position=first):
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


def _title(item: _Item) -> str:
    problem = item.problem
    return f"{problem.question}  ({problem.choices[problem.answer_index]})"
