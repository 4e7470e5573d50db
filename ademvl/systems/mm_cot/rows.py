"""Rows of MM-CoT's two stages: what the encoder reads, and behind it what the decoder learns.

A row's labels begin where its target does, so that batches are those of all models. Sources and
targets end in the tokenizer's end token.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ademvl.config.run import RunSettings
from ademvl.data.examples import Example
from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import IGNORED_LABEL, Tokenizer
from ademvl.systems.mm_cot.prompts import build_source, build_target
from ademvl.systems.mm_cot.settings import MmCotSettings
from ademvl.tasks.scienceqa.reader import load_scienceqa

Stage = Literal["rationale", "answer"]
ANSWER_FORMAT = "QCMG-A"
PAD_ID = 0
"""Of T5."""
_STAGES: Mapping[str, Stage] = {"rationale": "rationale", "answer": "answer"}


def settings_of(run: RunSettings) -> MmCotSettings:
    """Return a run's settings of MM-CoT.

    Raises:
        TypeError: it has another method.
    """
    if not isinstance(run.method, MmCotSettings):
        raise TypeError(f"{run.method.name} is not MM-CoT")
    return run.method


def stage_format(settings: MmCotSettings, stage: Stage) -> tuple[str, int]:
    """Return the format of a stage's texts, and the tokens of its targets at most."""
    if stage == "rationale":
        return settings.rationale_format, settings.max_rationale_tokens
    return ANSWER_FORMAT, settings.max_answer_tokens


def stage_examples(
    run: RunSettings, split: str, stage: Stage, rationales: Mapping[str, str] | None = None
) -> list[Example]:
    """Render a split for a stage; with an answer where it is the one that is trained on.

    Args:
        split: of ScienceQA.
        stage: which texts.
        rationales: by question id, what the first stage wrote; None for those of training.

    Raises:
        DataError: the data set is missing or malformed.
    """
    dataset = load_scienceqa(Path(run.data_dir))
    settings = settings_of(run)
    text_format, _ = stage_format(settings, stage)
    is_training = split == "train"
    return [
        Example(
            item_id=problem.question_id,
            prompt=build_source(
                problem,
                text_format,
                use_caption=settings.use_caption and run.images == "shown",
                rationale=(rationales or {}).get(problem.question_id, ""),
            ),
            answer=build_target(problem, text_format) if is_training else None,
            image=dataset.image_path(problem) if run.images == "shown" else None,
            num_choices=len(problem.choices),
        )
        for problem in dataset.split(split)
    ]


def tokenize(
    run: RunSettings, tokenizer: Tokenizer, examples: Sequence[Example], *, max_target: int = 0
) -> list[TokenizedExample]:
    """Return examples as rows, sources and targets cut at their ends.

    Args:
        tokenizer: of T5.
        examples: with answers to train on, or without.
        max_target: tokens of a target at most; padded to it where padding is scored.
    """
    settings = settings_of(run)
    rows = []
    for example in examples:
        whole = [*tokenizer.encode(example.prompt), tokenizer.eos_id]
        source = _cut(whole, settings.max_source_tokens)
        target: list[int] = []
        if example.answer is not None:
            target = _cut([*tokenizer.encode(example.answer), tokenizer.eos_id], max_target)
            if settings.score_padding:
                target += [PAD_ID] * (max_target - len(target))
        rows.append(
            TokenizedExample(
                item_id=example.item_id,
                ids=np.array([*source, *target], dtype=np.int32),
                labels=np.array([*[IGNORED_LABEL] * len(source), *target], dtype=np.int32),
                slot_start=-1,
                num_slots=0,
                image=example.image,
                is_shortened=len(whole) > len(source),
            )
        )
    return rows


def training_rows(run: RunSettings, tokenizer: Tokenizer, stage: str) -> list[TokenizedExample]:
    """Return the train split as rows of a stage.

    Raises:
        DataError: the data set is missing or malformed.
    """
    found: Stage = _STAGES[stage]
    _, max_target = stage_format(settings_of(run), found)
    return tokenize(run, tokenizer, stage_examples(run, "train", found), max_target=max_target)


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    """Cut ids at their end, the end token kept."""
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]
