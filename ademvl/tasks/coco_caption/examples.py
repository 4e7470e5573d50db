"""COCO's captions as prompts and answers."""

from collections.abc import Sequence
from pathlib import Path

from ademvl.config.run import PromptSettings
from ademvl.data.examples import Example, ImageVisibility
from ademvl.tasks.coco_caption.prompts import CAPTION_MAX_WORDS, CAPTION_PROMPT, caption_cue
from ademvl.tasks.coco_caption.reader import (
    CaptionImage,
    load_caption_train,
    normalize_caption,
)

_STANDARD = PromptSettings()


def caption_training_examples(
    root: Path, images: ImageVisibility = "shown", prompts: PromptSettings = _STANDARD
) -> list[Example]:
    """Render the captions of the train split, each with its picture.

    The answer begins with the prompt again, as the reference doubles "a picture of ", unless
    `prompts.caption_answer` is plain.
    """
    return [
        Example(
            item_id=example.item_id,
            prompt=CAPTION_PROMPT,
            answer=caption_answer(example.caption, prompts),
            image=example.image if images == "shown" else None,
        )
        for example in load_caption_train(root)
    ]


def caption_answer(caption: str, prompts: PromptSettings) -> str:
    """Return what is learned behind the prompt, see `caption_training_examples`."""
    begin = CAPTION_PROMPT if prompts.caption_answer == "doubled" else ""
    return begin + normalize_caption(caption, max_words=CAPTION_MAX_WORDS)


def caption_evaluation_examples(
    captioned: Sequence[CaptionImage],
    images: ImageVisibility = "shown",
    prompts: PromptSettings = _STANDARD,
) -> list[Example]:
    """Render one prompt for each picture of a split."""
    return [
        Example(
            item_id=str(image.image_id),
            prompt=caption_cue(prompts),
            answer=None,
            image=image.image if images == "shown" else None,
        )
        for image in captioned
    ]
