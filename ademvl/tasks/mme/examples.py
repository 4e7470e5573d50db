"""MME's questions as prompts."""

from collections.abc import Sequence

from ademvl.data.examples import Example, ImageVisibility
from ademvl.tasks.instruction.prompts import build_instruction_prompt
from ademvl.tasks.mme.reader import MmeQuestion


def mme_examples(
    questions: Sequence[MmeQuestion], images: ImageVisibility = "shown"
) -> list[Example]:
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
