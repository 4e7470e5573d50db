"""ScienceQA's questions as prompts and answers."""

from ademvl.config.run import PromptSettings
from ademvl.data.choices import ANSWER_CUE
from ademvl.data.examples import Example, ImageVisibility
from ademvl.errors import DataError
from ademvl.tasks.scienceqa.prompts import (
    REFERENCE_EVALUATION_FORMAT,
    build_answer,
    build_context,
    build_prompt,
)
from ademvl.tasks.scienceqa.reader import ScienceQA


def scienceqa_training_examples(
    dataset: ScienceQA, prompts: PromptSettings, images: ImageVisibility
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
    dataset: ScienceQA, split: str, prompts: PromptSettings, images: ImageVisibility
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
