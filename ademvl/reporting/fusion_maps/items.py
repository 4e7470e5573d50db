"""Chooses what fusion maps are drawn of, and brings it into rows of tokens with their words."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.errors import DataError, SettingsError
from ademvl.randomness import derive_seed
from ademvl.reporting.fusion_maps.words import WordToken, caption_words, question_words
from ademvl.tasks.base import ShownImage, ShownItem
from ademvl.tasks.registry import questions_of

if TYPE_CHECKING:
    from ademvl.data.rows import TokenizedExample
    from ademvl.data.tokenizer import Tokenizer
    from ademvl.model.vision_language import VisionLanguageModel
    from ademvl.vision.features.source import VisualSource


@dataclass(frozen=True)
class MapItem:
    """An image with what was asked about it.

    Attributes:
        row: tokens up to where the answer is predicted.
        image: file of the picture.
        record: what the list file says of it: ids, question and answer, or references.
    """

    row: "TokenizedExample"
    image: Path
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """Which items are drawn: named ones first, then random ones.

    Attributes:
        ids: question or image ids of the evaluated split, each with an image.
        num_random: further items, drawn at random; fewer where the split has fewer.
        seed: of the draw.
    """

    ids: Sequence[str] = ()
    num_random: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_random < 0 or self.num_random + len(self.ids) < 1:
            raise SettingsError(
                f"fusion maps: {self.num_random} random items and {len(self.ids)} chosen ones; "
                "ask for at least one"
            )


def choose_items(run: RunSettings, tokenizer: "Tokenizer", choice: Choice) -> list[MapItem]:
    """Choose items of the split that the run is evaluated on, in the rows that evaluation reads.

    Raises:
        SettingsError: a chosen id is not in the split, or has no image.
        DataError: the data set is missing or malformed.
    """
    from ademvl.evaluation.task import tokenize_prompts

    questions = questions_of(run)
    examples, records = questions.examples(run), {i.item_id: _record(i) for i in questions.shown()}
    with_image = {example.item_id: example for example in examples if example.image is not None}
    chosen = list(dict.fromkeys(choice.ids))
    if unknown := [item for item in chosen if item not in with_image]:
        raise SettingsError(
            f"fusion maps of run {run.name}: no item with an image and id {', '.join(unknown)} in "
            f"split {run.evaluation.split} of {run.data_dir}; name ids of its prediction file"
        )
    if not with_image:
        raise DataError(f"{run.data_dir}: no item with an image in split {run.evaluation.split!r}")
    rest = [item for item in with_image if item not in set(chosen)]
    generator = random.Random(derive_seed(choice.seed, "fusion maps", run.name))
    chosen += generator.sample(rest, min(choice.num_random, len(rest)))
    rows = tokenize_prompts(
        run, tokenizer, [with_image[item] for item in chosen], max_new_tokens=run.new_tokens
    )
    return [MapItem(row, row.image, records[row.item_id]) for row in rows if row.image is not None]


def _record(item: ShownItem) -> Mapping[str, Any]:
    if isinstance(item, ShownImage):
        return {"image_id": int(item.item_id), "references": list(item.references)}
    return {
        "question_id": item.item_id,
        "question": item.question,
        "answer": item.choices[item.answer_index],
    }


def words_of_question(tokenizer: "Tokenizer", row: "TokenizedExample") -> list[WordToken]:
    """Return the content words of the question in a row, and where its answer is predicted."""
    return question_words(tokenizer, row.ids.tolist(), first_text_position=text_start(row))


def caption_with_words(
    model: "VisionLanguageModel",
    source: "VisualSource",
    tokenizer: "Tokenizer",
    row: "TokenizedExample",
    run: RunSettings,
) -> tuple["TokenizedExample", str, list[WordToken]]:
    """Let the model describe a row's image.

    Returns:
        The row with the generated tokens behind it, the caption, and its content words.
    """
    import numpy as np

    from ademvl.data.collate import collate
    from ademvl.evaluation.generation import generate
    from ademvl.tasks.coco_caption.reader import extract_caption

    batch = collate([row], trim_after_labels=False)
    (new_ids,) = generate(
        model,
        batch,
        source.for_batch(batch),
        max_new_tokens=run.evaluation.max_new_tokens,
        eos_id=tokenizer.eos_id,
        decoding=run.evaluation.decoding,
        seed=run.seed,
    )
    ids = np.concatenate([row.ids, np.array(new_ids, dtype=row.ids.dtype)])
    longer = dataclasses.replace(row, ids=ids, labels=np.full_like(ids, -100))
    caption = extract_caption(tokenizer.decode(new_ids))
    words = caption_words(
        tokenizer,
        ids.tolist(),
        first_text_position=text_start(row),
        first_new_position=len(row.ids),
        caption=caption,
    )
    return longer, caption, words


def text_start(row: "TokenizedExample") -> int:
    """Return the place of the first token behind begin token, prefix and slots."""
    return row.slot_start + row.num_slots if row.slot_start >= 0 else 1
