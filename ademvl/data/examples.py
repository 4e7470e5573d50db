"""Turns records of data sets into what is trained and evaluated on: prompt, answer, image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ademvl.config.run import PromptSettings, RunSettings
from ademvl.data.captions import load_caption_images, load_caption_train, normalize_caption
from ademvl.data.instructions import load_instructions
from ademvl.data.mme import MmeQuestion, load_benchmark
from ademvl.data.prompts import (
    ANSWER_CUE,
    CAPTION_MAX_WORDS,
    CAPTION_PROMPT,
    REFERENCE_EVALUATION_FORMAT,
    build_answer,
    build_context,
    build_instruction_prompt,
    build_prompt,
    caption_cue,
)
from ademvl.data.scienceqa import ScienceQA, load_scienceqa
from ademvl.errors import DataError

ImageUse = Literal["shown", "withheld"]
_STANDARD = PromptSettings()


@dataclass(frozen=True)
class Example:
    """One item as text and image.

    Attributes:
        item_id: question id or image id; unique within what is trained or evaluated.
        prompt: text that is given.
        answer: text that is learned; None in evaluation.
        image: file of the picture, None without one or where it is withheld.
        context: the part of `prompt` that may be shortened where the prompt is too long.
        num_choices: options that the prompt lists, 0 for none.
        has_hint: whether there is a context beside the question.
    """

    item_id: str
    prompt: str
    answer: str | None
    image: Path | None
    context: str = ""
    num_choices: int = 0
    has_hint: bool = False


def training_examples(run: RunSettings) -> list[Example]:
    """Read and render the training split of a run's data set.

    Raises:
        DataError: the data set is missing or malformed.
    """
    root = Path(run.data_dir)
    if run.task == "coco_caption":
        return caption_training_examples(root, run.images, run.prompts)
    if run.task == "instruction":
        return instruction_training_examples(root, run.images)
    return scienceqa_training_examples(load_scienceqa(root), run.prompts, run.images)


def evaluation_examples(run: RunSettings) -> list[Example]:
    """Read and render what a run is evaluated on.

    Raises:
        DataError: the data set is missing or malformed.
    """
    root, split = Path(run.data_dir), run.evaluation.split
    if run.task == "coco_caption":
        return caption_evaluation_examples(root, split, run.images, run.prompts)
    if run.task == "instruction":
        return mme_examples(load_benchmark(Path(run.evaluation_data_dir)), run.images)
    return scienceqa_evaluation_examples(load_scienceqa(root), split, run.prompts, run.images)


def scienceqa_training_examples(
    dataset: ScienceQA, prompts: PromptSettings, images: ImageUse
) -> list[Example]:
    """Render the train split in the training format, without captions, as the reference does."""
    return [
        Example(
            item_id=problem.question_id,
            prompt=build_prompt(problem, prompts.train_format, use_caption=False),
            answer=build_answer(problem, prompts.train_format),
            image=dataset.image_path(problem) if images == "shown" else None,
            num_choices=len(problem.choices),
            has_hint=problem.has_text_context,
        )
        for problem in dataset.split("train")
    ]


def scienceqa_evaluation_examples(
    dataset: ScienceQA, split: str, prompts: PromptSettings, images: ImageUse
) -> list[Example]:
    """Render a split for evaluation: prompts end in "Response:The answer is".

    `prompts.evaluation` decides on the format: `matched` is the training format; `reference` is
    QCM-A with the picture's caption in the context. Where images are withheld, so are captions,
    which are made from them.

    Raises:
        DataError: captions are to be shown, but the data set has none.
    """
    is_reference = prompts.evaluation == "reference"
    prompt_format = REFERENCE_EVALUATION_FORMAT if is_reference else prompts.train_format
    use_caption = is_reference and images == "shown"
    if use_caption and not any(problem.caption for problem in dataset.problems.values()):
        raise DataError(
            f"{dataset.root}: prompts.evaluation is reference, which shows captions, but there are "
            "none. Put the official captions.json there, or set prompts.evaluation: matched."
        )
    return [
        Example(
            item_id=problem.question_id,
            prompt=build_prompt(problem, prompt_format, use_caption=use_caption) + ANSWER_CUE,
            answer=None,
            image=dataset.image_path(problem) if images == "shown" else None,
            context=build_context(problem, use_caption=use_caption),
        )
        for problem in dataset.split(split)
    ]


def caption_training_examples(
    root: Path, images: ImageUse = "shown", prompts: PromptSettings = _STANDARD
) -> list[Example]:
    """Render the captions of the train split, each with its picture.

    The answer begins with the prompt again, as the reference doubles "a picture of ", unless
    `prompts.caption_answer` is plain.
    """
    begin = CAPTION_PROMPT if prompts.caption_answer == "doubled" else ""
    return [
        Example(
            item_id=example.item_id,
            prompt=CAPTION_PROMPT,
            answer=begin + normalize_caption(example.caption, max_words=CAPTION_MAX_WORDS),
            image=example.image if images == "shown" else None,
        )
        for example in load_caption_train(root)
    ]


def caption_evaluation_examples(
    root: Path, split: str, images: ImageUse = "shown", prompts: PromptSettings = _STANDARD
) -> list[Example]:
    """Render one prompt for each picture of a split."""
    return [
        Example(
            item_id=str(image.image_id),
            prompt=caption_cue(prompts),
            answer=None,
            image=image.image if images == "shown" else None,
        )
        for image in load_caption_images(root, split)
    ]


def instruction_training_examples(root: Path, images: ImageUse = "shown") -> list[Example]:
    """Render LaVIN's instruction data, with and without pictures; prompts come rendered."""
    return [
        Example(
            item_id=item.item_id,
            prompt=item.prompt,
            answer=item.answer,
            image=item.image if images == "shown" else None,
        )
        for item in load_instructions(root)
    ]


def mme_examples(questions: Sequence[MmeQuestion], images: ImageUse = "shown") -> list[Example]:
    """Render MME's questions as instructions, in their published order."""
    return [
        Example(
            item_id=f"{question.task}/{question.image.name}/{number}",
            prompt=build_instruction_prompt(question.question),
            answer=None,
            image=question.image if images == "shown" else None,
            context=question.question,
        )
        for number, question in enumerate(questions)
    ]
