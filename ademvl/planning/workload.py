"""How much a run has to do: items, images and lengths of texts, from data or from what is known.

Data that is there is read lightly, without looking at images; `ademvl data verify` checks it. Where
it is not there, published sizes and assumed lengths stand in, and the plan says so.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.data.captions import karpathy_file, normalize_caption
from ademvl.data.examples import (
    Example,
    scienceqa_evaluation_examples,
    scienceqa_training_examples,
)
from ademvl.data.instructions import INSTRUCTION_FILE
from ademvl.data.prompts import (
    CAPTION_MAX_WORDS,
    CAPTION_PROMPT,
)
from ademvl.data.scienceqa import ScienceQA, load_scienceqa
from ademvl.data.tokenizer import TOKENIZER_FILE, SentencePieceTokenizer
from ademvl.errors import DataError, WeightsError
from ademvl.llm.source import find_llm
from ademvl.planning.assumed import assumed_rows, published_sizes, text_lengths
from ademvl.planning.rows import Row, num_inserted
from ademvl.storage.files import read_json

_FEWER_INSTRUCTIONS = (
    "instruction: an item for each of LLaVA-Instruct-150K's conversations; LaVIN's file has one "
    "for each question and answer, so there are more, and more steps, than shown"
)
_SAMPLE, _LONGEST = 1000, 64
_REMEDY = "Correct the file, or make the data again (`snakemake data`)."


@dataclass(frozen=True)
class Split:
    """Items that a run trains on, or is evaluated on.

    Attributes:
        items: how many.
        images: different images among them.
        rows: a random sample of them.
        longest: those with the longest texts; empty where they are not known.
    """

    items: int
    images: int
    rows: tuple[Row, ...]
    longest: tuple[Row, ...] = ()

    @property
    def known_rows(self) -> tuple[Row, ...]:
        """Both, more of them long ones than in the data; empty where the longest are not known."""
        return (*self.rows, *self.longest) if self.longest else ()


@dataclass(frozen=True)
class Workload:
    """What a run has to do.

    Attributes:
        training: items of one epoch.
        evaluation: items that are answered.
        assumptions: what was not read from data; empty where all was.
    """

    training: Split
    evaluation: Split
    assumptions: tuple[str, ...]


class _Texts(NamedTuple):
    """Texts of a split: a random sample, and the longest ones."""

    items: int
    images: int
    sample: Sequence[Example]
    longest: Sequence[Example]


def workload_of(run: RunSettings, dataset: DatasetSettings) -> Workload:
    """Return what a run has to do; reads its data where that is there."""
    assumptions: list[str] = []
    tokenizer = _tokenizer(run)
    training = _split(run, dataset, "training", tokenizer, assumptions)
    evaluation = _split(run, dataset, "evaluation", tokenizer, assumptions)
    return Workload(training, evaluation, tuple(dict.fromkeys(assumptions)))


def _split(
    run: RunSettings,
    dataset: DatasetSettings,
    part: Literal["training", "evaluation"],
    tokenizer: SentencePieceTokenizer | None,
    assumptions: list[str],
) -> Split:
    is_training = part == "training"
    read = _training_texts if is_training else _evaluation_texts
    lengths = text_lengths(run, dataset, is_training=is_training)
    try:
        texts = read(run)
    except DataError as error:
        if _is_there(run, is_training=is_training):
            assumptions.append(f"data could not be read: {error}")
        texts = None
    if texts is None:
        assumptions.append(
            f"{run.task}: the data is not there yet; text lengths {lengths['origin']}"
        )
        items, with_image, images = published_sizes(run, dataset, is_training=is_training)
        if run.task == "instruction" and is_training:
            assumptions.append(_FEWER_INSTRUCTIONS)
        share = with_image / items if items else 0
        return Split(items, images, *assumed_rows(run, lengths, share, is_training))
    if tokenizer is None:
        assumptions.append(f"no tokenizer read: {lengths['per_token']} characters a token")
    rows, longest = (
        tuple(
            _row(run, example, tokenizer, lengths["per_token"], is_training=is_training)
            for example in examples
        )
        for examples in (texts.sample, texts.longest)
    )
    return Split(texts.items, texts.images, rows, longest)


def _is_there(run: RunSettings, *, is_training: bool) -> bool:
    return Path(run.data_dir if is_training else run.evaluation_data_dir or run.data_dir).is_dir()


def _tokenizer(run: RunSettings) -> SentencePieceTokenizer | None:
    """Return the model's tokenizer where SentencePiece reads it, which needs no torch."""
    source = find_llm(run.backbones)
    file = source.find_file(TOKENIZER_FILE) if source.folder else None
    try:
        return SentencePieceTokenizer.from_file(file) if file else None
    except WeightsError:
        return None


def _row(
    run: RunSettings,
    example: Example,
    tokenizer: SentencePieceTokenizer | None,
    per_token: float,
    *,
    is_training: bool,
) -> Row:
    def count(text: str) -> int:
        return len(tokenizer.encode(text)) if tokenizer else -(-len(text) // int(per_token))

    has_image = example.image is not None
    num_prompt, scored = count(example.prompt), 0
    if example.answer is not None:
        # Prompt and answer are tokenized together; the end token follows.
        scored = count(example.prompt + example.answer) - num_prompt + 1
    width = 1 + num_prompt + scored + num_inserted(run, count, has_image=has_image)
    room = run.prompts.max_seq_len if is_training else run.prompts.window
    return Row(min(width, room), scored, has_image)


def _training_texts(run: RunSettings) -> _Texts:
    root, shown = Path(run.data_dir), run.images == "shown"
    if run.task == "scienceqa":
        return _texts(scienceqa_training_examples(_scienceqa(root), run.prompts, run.images))
    path = root / INSTRUCTION_FILE
    if run.task == "coco_caption":
        path = karpathy_file(root, "train")
    rows = _rows(path)
    render = _caption_example if run.task == "coco_caption" else _instruction_example
    images = {row.get("image") for row in rows} - {None} if shown else set()
    key = "caption" if run.task == "coco_caption" else "instruction"
    longest = heapq.nlargest(
        _LONGEST, rows, key=lambda row: len(row[key]) + len(row.get("answer", ""))
    )
    return _Texts(
        len(rows),
        len(images),
        [render(run, row) for row in _sample(rows)],
        [render(run, row) for row in longest],
    )


def _caption_example(run: RunSettings, row: Any) -> Example:
    begin = CAPTION_PROMPT if run.prompts.caption_answer == "doubled" else ""
    answer = begin + normalize_caption(str(row["caption"]), max_words=CAPTION_MAX_WORDS)
    return Example("", CAPTION_PROMPT, answer, Path(row["image"]))


def _instruction_example(run: RunSettings, row: Any) -> Example:
    image = Path(row["image"]) if row["image"] is not None and run.images == "shown" else None
    return Example("", str(row["instruction"]), str(row["answer"]), image)


def _evaluation_texts(run: RunSettings) -> _Texts:
    root, split = Path(run.data_dir), run.evaluation.split
    if run.task == "scienceqa":
        return _texts(
            scienceqa_evaluation_examples(_scienceqa(root), split, run.prompts, run.images)
        )
    if run.task == "coco_caption":
        rows = _rows(karpathy_file(root, split))
        prompts = [Example("", CAPTION_PROMPT, None, Path("image"))]
        return _Texts(len(rows), len(rows), prompts, prompts)
    from ademvl.data.examples import mme_examples
    from ademvl.data.mme import load_benchmark

    if not Path(run.evaluation_data_dir).is_dir():
        raise DataError(f"{run.evaluation_data_dir}: no such folder")
    return _texts(mme_examples(load_benchmark(Path(run.evaluation_data_dir)), run.images))


def _texts(examples: Sequence[Example]) -> _Texts:
    longest = heapq.nlargest(
        _LONGEST, examples, key=lambda item: len(item.prompt) + len(item.answer or "")
    )
    images = {example.image for example in examples} - {None}
    return _Texts(len(examples), len(images), _sample(examples), longest)


@cache
def _scienceqa(root: Path) -> ScienceQA:
    return load_scienceqa(root)


@cache
def _rows(path: Path) -> list[Any]:
    content = read_json(path, remedy=_REMEDY)
    rows = content.get("all") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: holds no list of items. {_REMEDY}")
    return rows


def _sample(items: Sequence[Any]) -> list[Any]:
    return random.Random(0).sample(items, min(_SAMPLE, len(items)))
