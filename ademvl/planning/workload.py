"""How much a run has to do: items, images and lengths of texts, from data or from what is known.

Data that is there is read lightly, without looking at images; `ademvl data verify` checks it. Where
it is not there, published sizes and assumed lengths stand in, and the plan says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.data.examples import Example
from ademvl.data.tokenizer import TOKENIZER_FILE, SentencePieceTokenizer
from ademvl.errors import DataError, WeightsError
from ademvl.llm.source import find_llm
from ademvl.planning.assumed import assumed_rows, text_lengths
from ademvl.planning.rows import Row, num_inserted
from ademvl.tasks.registry import task_named


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
    task = task_named(run.task)
    read = task.training_texts if is_training else task.evaluation_texts
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
        items, with_image, images = task.published_sizes(run, dataset, is_training=is_training)
        if is_training and task.facts.sizes_note:
            assumptions.append(f"{run.task}: {task.facts.sizes_note}")
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
    return Path(run.data_dir if is_training else run.evaluated_dir).is_dir()


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
