"""How the mini study's questions are worded, and which options they offer.

easy-VQA words each question in few ways, in small letters, and always offers as many answers. Half
of the questions are worded otherwise here, half begin with a capital letter, and each offers two to
four options, so that nothing is learned that holds for one form of question alone.
"""

import random
from collections.abc import Mapping, Sequence

from ademvl.data.easy_vqa import (
    COLORS,
    SHAPES,
    YES_NO,
    QuestionType,
    is_negated,
    mentioned,
    question_type,
)

Meaning = tuple[QuestionType, str, bool]
"""Type of a question, what it mentions ("color", "shape" or nothing), and whether it is negated."""

OTHER_WORDINGS: Mapping[Meaning, Sequence[str]] = {
    ("color", "", False): (
        "which color does the shape have?",
        "name the color of the shape.",
        "what is the color of the shape in the image?",
    ),
    ("color", "shape", False): (
        "which color does the {shape} have?",
        "name the color of the {shape}.",
        "what is the color of the {shape} in the image?",
    ),
    ("shape", "", False): (
        "which shape does the image show?",
        "name the shape in the image.",
        "what shape can be seen?",
    ),
    ("shape", "color", False): (
        "which shape is {color}?",
        "name the {color} shape.",
        "what is the {color} shape in the image?",
    ),
    ("yes_no", "color", False): (
        "is the shape {color}?",
        "can a {color} shape be seen?",
        "does the image show a {color} shape?",
    ),
    ("yes_no", "shape", False): (
        "is the shape a {shape}?",
        "can a {shape} be seen?",
        "does the image show a {shape}?",
    ),
    ("yes_no", "color", True): (
        "is the shape not {color}?",
        "is there no {color} shape in the image?",
        "does the image show no {color} shape?",
    ),
    ("yes_no", "shape", True): (
        "is the shape not a {shape}?",
        "is there no {shape} in the image?",
        "does the image show no {shape}?",
    ),
}
NEVER_RIGHT: Mapping[QuestionType, tuple[str, ...]] = {
    "color": (),
    "shape": ("star", "heart"),
    "yes_no": ("maybe", "unclear"),
}
"""Further options, which no image makes right."""
NUM_CHOICES = (2, 3, 4)


def reword(text: str, generator: random.Random) -> str:
    """Word a question of easy-VQA anew, or leave it, and begin it with a capital letter or not."""
    color, shape = mentioned(text, COLORS), mentioned(text, SHAPES)
    if generator.random() < 0.5:
        subject = "color" if color else "shape" if shape else ""
        wordings = OTHER_WORDINGS[question_type(text), subject, is_negated(text)]
        text = generator.choice(wordings).format(color=color, shape=shape)
    return text[0].upper() + text[1:] if generator.random() < 0.5 else text


def draw_choices(kind: QuestionType, answer: str, generator: random.Random) -> tuple[str, ...]:
    """Draw two to four options in shuffled order, the answer among them.

    Yes and no are always both there; of colours and shapes any may be missing but the answer.
    """
    known = {"color": COLORS, "shape": SHAPES, "yes_no": YES_NO}[kind]
    choices = list(YES_NO) if kind == "yes_no" else [answer]
    others = [word for word in (*known, *NEVER_RIGHT[kind]) if word not in choices]
    choices += generator.sample(others, generator.choice(NUM_CHOICES) - len(choices))
    generator.shuffle(choices)
    return tuple(choices)
