"""A-OKVQA's questions as prompts and answers, in ScienceQA's formats.

A question has no context and no lecture; what a format explains with is the first rationale.
"""

from collections.abc import Sequence

from ademvl.config.run import PromptSettings
from ademvl.data.choices import ANSWER_CUE
from ademvl.data.examples import Example, ImageVisibility
from ademvl.tasks.aokvqa.reader import Question
from ademvl.tasks.scienceqa.prompts import REFERENCE_EVALUATION_FORMAT, build_answer, build_prompt
from ademvl.tasks.scienceqa.reader import Problem


def training_examples(
    questions: Sequence[Question], prompts: PromptSettings, images: ImageVisibility
) -> list[Example]:
    """Render questions in the training format."""
    return [
        Example(
            item_id=item.question_id,
            prompt=build_prompt(_problem(item), prompts.train_format, use_caption=False),
            answer=build_answer(_problem(item), prompts.train_format),
            image=item.image if images == "shown" else None,
            num_choices=len(item.choices),
        )
        for item in questions
    ]


def evaluation_examples(
    questions: Sequence[Question], prompts: PromptSettings, images: ImageVisibility
) -> list[Example]:
    """Render questions for evaluation: prompts end in "Response:The answer is"."""
    is_reference = prompts.evaluation == "reference"
    prompt_format = REFERENCE_EVALUATION_FORMAT if is_reference else prompts.train_format
    return [
        Example(
            item_id=item.question_id,
            prompt=build_prompt(_problem(item), prompt_format, use_caption=False) + ANSWER_CUE,
            answer=None,
            image=item.image if images == "shown" else None,
        )
        for item in questions
    ]


def _problem(item: Question) -> Problem:
    """Return a question in ScienceQA's form."""
    return Problem(
        question_id=item.question_id,
        question=item.question,
        choices=item.choices,
        answer_index=item.answer_index,
        image=item.image.name,
        solution=item.rationale,
    )
