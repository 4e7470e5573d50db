"""LaVIN's instructions as prompts and answers."""

from pathlib import Path

from ademvl.data.examples import Example, ImageVisibility
from ademvl.tasks.instruction.reader import load_instructions


def instruction_training_examples(root: Path, images: ImageVisibility = "shown") -> list[Example]:
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
