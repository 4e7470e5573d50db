"""Questions about scenes: in which words, with which options, and how their answers are balanced.

Within each form of question all right answers are drawn equally often (`AnswerBalance`), so that
little is gained by guessing without the picture. Wrong options are drawn from all answers of the
form, seen in the picture or not.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ademvl.data.mini_wordings import NUM_CHOICES
from ademvl.data.scene_forms import NEVER_RIGHT, POSSIBLE, YES_NO, Asked, QuestionKind
from ademvl.data.scenes import Scene

WORDINGS: Mapping[str, Sequence[str]] = {
    "presence": (
        "is there a {what}?",
        "can a {what} be seen?",
        "does the image show a {what}?",
        "is a {what} in the image?",
    ),
    "color shown": (
        "which color can be seen?",
        "which color does the image show?",
        "which color is in the image?",
    ),
    "shape shown": (
        "which shape can be seen?",
        "which shape does the image show?",
        "which shape is in the image?",
    ),
    "number": (
        "how many {what} are there?",
        "how many {what} can be seen?",
        "how many {what} does the image show?",
    ),
    "color": (
        "what color is the {what}?",
        "which color does the {what} have?",
        "name the color of the {what}.",
    ),
    "shape": (
        "what shape is the {what}?",
        "which shape does the {what} have?",
        "name the shape of the {what}.",
    ),
    "more": (
        "are there more {what} than {other}?",
        "does the image show more {what} than {other}?",
    ),
    "fewer": (
        "are there fewer {what} than {other}?",
        "does the image show fewer {what} than {other}?",
    ),
    "larger": (
        "is the {what} larger than the {other}?",
        "is the {other} smaller than the {what}?",
    ),
}


@dataclass(frozen=True)
class SceneQuestion:
    """A question about a scene.

    Attributes:
        kind: what it is about.
        form: see `Asked`.
        text: the question.
        choices: two to four options in their order.
        answer: the right one.
        hint: a caption of the scene that answers it.
    """

    kind: QuestionKind
    form: str
    text: str
    choices: tuple[str, ...]
    answer: str
    hint: str


class AnswerBalance:
    """Chooses among possible questions so that the answers of each form stay equally frequent."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def choose(self, possible: Sequence[Asked], generator: random.Random) -> Asked | None:
        """Draw a form, then an answer, then a question; None where every answer is ahead."""
        rare = [asked for asked in possible if self._is_rare(asked)]
        if not rare:
            return None
        form = generator.choice(sorted({asked.form for asked in rare}))
        answers = sorted({asked.answer for asked in rare if asked.form == form})
        fitting = (form, generator.choice(answers))
        chosen = generator.choice(
            [asked for asked in rare if (asked.form, asked.answer) == fitting]
        )
        self._counts[fitting] += 1
        return chosen

    def _is_rare(self, asked: Asked) -> bool:
        fewest = min(self._counts[asked.form, answer] for answer in asked.answers)
        return self._counts[asked.form, asked.answer] <= fewest + 1


def draw_question(
    scene: Scene, kind: QuestionKind, balance: AnswerBalance, generator: random.Random
) -> SceneQuestion | None:
    """Draw a question of a kind about a scene; None where the scene gives none that is wanted."""
    asked = balance.choose(list(POSSIBLE[kind](scene)), generator)
    if asked is None:
        return None
    text = generator.choice(WORDINGS[asked.wording]).format(**asked.blanks)
    if generator.random() < 0.5:
        text = text[0].upper() + text[1:]
    choices = _draw_choices(asked, generator)
    hint = asked.tell(generator)
    return SceneQuestion(kind, asked.form, text, choices, asked.answer, hint)


def _draw_choices(asked: Asked, generator: random.Random) -> tuple[str, ...]:
    tempting = generator.sample(asked.tempting, len(asked.tempting))
    known = (*asked.answers, *(NEVER_RIGHT if asked.answers == YES_NO else ()))
    used = (asked.answer, *tempting, *asked.also_right)
    others = [word for word in known if word not in used]
    wrong = [*tempting, *generator.sample(others, len(others))]
    choices = [asked.answer, *wrong[: generator.choice(NUM_CHOICES) - 1]]
    generator.shuffle(choices)
    return tuple(choices)
