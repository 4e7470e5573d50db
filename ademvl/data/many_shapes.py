"""Draws the data set `many_shapes` from a seed, in the layouts of ScienceQA and COCO captions.

Scenes have a number in their split, by which they are drawn: more questions or captioned images
add scenes and leave the others as they are. Nothing is downloaded.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ademvl.config.dataset import DatasetSettings
from ademvl.data.mini_layout import CaptionedImage, Labels, MiniQuestion, MiniSplit, write_mini
from ademvl.data.scene_captions import draw_references
from ademvl.data.scene_forms import QuestionKind
from ademvl.data.scene_questions import AnswerBalance, draw_question
from ademvl.data.scenes import Scene, draw_scene, render
from ademvl.randomness import derive_seed

KIND_SHARES: Mapping[QuestionKind, float] = {
    "shown": 0.25,
    "presence": 0.05,
    "number": 0.1,
    "name": 0.25,
    "place": 0.2,
    "beside": 0.1,
    "comparison": 0.05,
}
"""Share of each kind of question."""
QUESTIONS_PER_SCENE = 3
"""Each of another kind."""
_FIRST_NUMBERS = {"train": 0, "val": 10_000_000, "test": 20_000_000}
"""Image ids of the splits begin here."""
_SEVERAL: tuple[QuestionKind, ...] = ("beside", "comparison")
"""Kinds that ask for two objects or groups at once: they get the higher grades."""

_ATTRIBUTES = Labels(
    "natural science",
    "physics",
    "Light and form",
    "Name the color or shape of an object in a place",
    "An object is told by where it stands, and has a color and a shape.",
)
_YES_NO = Labels(
    "language science",
    "grammar",
    "Questions and answers",
    "Answer a question about presence",
    "The answer is yes when one object has both properties that the question names, and else no.",
)
_LABELS: Mapping[QuestionKind, Labels] = {
    "place": _ATTRIBUTES,
    "beside": _ATTRIBUTES._replace(skill="Name the color or shape of an object beside another"),
    "name": _ATTRIBUTES._replace(skill="Name the color of a shape, or the shape of a color"),
    "shown": _ATTRIBUTES._replace(
        skill="Choose a color or shape that is there",
        lecture="Look for each option in the image; one of them is there.",
    ),
    "number": Labels(
        "social science",
        "counting",
        "Numbers",
        "Count objects",
        "Count only the objects that have what the question names.",
    ),
    "presence": _YES_NO,
    "comparison": _YES_NO._replace(
        skill="Compare objects",
        lecture="Count or measure both, then compare.",
    ),
}
KIND_OF_SKILL = {labels.skill: kind for kind, labels in _LABELS.items()}
"""What a question of the layout is about."""


@dataclass(frozen=True)
class SceneImage:
    """The picture of a scene (a `MiniImage`).

    Attributes:
        seed: of the data set.
        split, number: which scene it is.
    """

    seed: int
    split: str
    number: int

    @property
    def image_id(self) -> int:
        """Number that is unique over all splits."""
        return _FIRST_NUMBERS[self.split] + self.number

    @cached_property
    def scene(self) -> Scene:
        """What it shows."""
        return draw_scene(self.generator("scene"))

    @cached_property
    def references(self) -> tuple[str, ...]:
        """Its captions."""
        return draw_references(self.scene, self.generator("captions"))

    def generator(self, purpose: str) -> random.Random:
        """Return a generator of its own for a purpose."""
        return random.Random(
            derive_seed(self.seed, "many_shapes", purpose, self.split, self.number)
        )

    def write(self, target: Path) -> None:
        """Draw the picture."""
        render(self.scene).save(target, format="PNG")


def draw_many_shapes(output_dir: Path, settings: DatasetSettings) -> None:
    """Write the data set; see `write_mini`.

    Raises:
        DataError: `output_dir` holds something else.
    """
    splits = {
        split: MiniSplit(_draw_questions(split, settings), _captioned(split, settings))
        for split in _FIRST_NUMBERS
    }
    write_mini(
        output_dir,
        settings,
        splits,
        source={"drawn_by": "ademvl"},
        description="scenes of several shapes, drawn and captioned by ademvl",
    )


def _captioned(split: str, settings: DatasetSettings) -> tuple[CaptionedImage, ...]:
    images = (
        SceneImage(settings.seed, split, number)
        for number in range(getattr(settings, f"caption_{split}_images"))
    )
    return tuple(CaptionedImage(image, image.references) for image in images)


def _draw_questions(split: str, settings: DatasetSettings) -> tuple[MiniQuestion, ...]:
    """Ask about one scene after the other, each time of the kind that is furthest behind."""
    wanted: int = getattr(settings, f"{split}_questions")
    balance, counts = AnswerBalance(), Counter[QuestionKind]()
    drawn: list[MiniQuestion] = []
    number = 0
    while len(drawn) < wanted:
        image = SceneImage(settings.seed, split, number)
        number += 1
        generator = image.generator("questions")
        asked = 0
        for kind in sorted(KIND_SHARES, key=lambda kind: counts[kind] / KIND_SHARES[kind]):
            if asked == QUESTIONS_PER_SCENE or len(drawn) == wanted:
                break
            question = draw_question(image.scene, kind, balance, generator)
            if question is None:
                continue
            counts[kind] += 1
            asked += 1
            share = settings.text_only_fraction
            is_text_only = int(counts[kind] * share) > int((counts[kind] - 1) * share)
            grades = (7, 12) if kind in _SEVERAL else (1, 6)
            drawn.append(
                MiniQuestion(
                    image=image,
                    text=question.text,
                    choices=question.choices,
                    answer=question.answer,
                    hint=question.hint if is_text_only else "",
                    caption=question.hint,
                    grade=generator.randint(*grades),
                    kind=kind,
                    labels=_LABELS[kind],
                    solution=_tell(image.scene),
                )
            )
    return tuple(drawn)


def _tell(scene: Scene) -> str:
    """Tell all objects with their places, in the order of the cells."""
    told = (f"a {item.size} {item.name} in the {item.place}" for item in scene.objects)
    return f"The image shows {', '.join(told)}."
