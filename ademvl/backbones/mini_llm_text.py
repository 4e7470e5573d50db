"""What the mini study's language model learns to talk about: pictures of one coloured shape.

Its questions are fresh ones in the train split's wordings.
"""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from ademvl.backbones.mini_llm_rows import LETTERS, Question, Told, render_prompt
from ademvl.data.easy_vqa import (
    COLORS,
    SHAPES,
    YES_NO,
    is_negated,
    mentioned,
    question_type,
    true_answer,
)
from ademvl.data.mini import CAPTION_TEMPLATES
from ademvl.data.mini_wordings import draw_choices
from ademvl.errors import DataError
from ademvl.tasks.scienceqa.reader import Problem, load_scienceqa

TOKENIZER_LINES = 4000
WORD_SHARE = 0.4
"""Of the questions that ask for a colour or a shape; the rest are yes/no questions."""
Kind = Literal["color", "shape", "positive", "negated"]


def read_wordings(data_dir: Path) -> Mapping[Kind, tuple[str, ...]]:
    """Collect the wordings of the train split's questions, with {color} and {shape} left open."""
    found: dict[Kind, set[str]] = {
        "color": set(),
        "shape": set(),
        "positive": set(),
        "negated": set(),
    }
    for problem in load_scienceqa(data_dir).split("train"):
        text = problem.question
        for words, name in ((COLORS, "{color}"), (SHAPES, "{shape}")):
            word = mentioned(text, words)
            text = re.sub(rf"\b{word}\b", name, text) if word else text
        kind = question_type(problem.question)
        if kind == "yes_no":
            found["negated" if is_negated(text) else "positive"].add(text)
        else:
            found["color" if kind == "color" else "shape"].add(text)
    if not all(found.values()):
        raise DataError(f"{data_dir}: a type of question is missing in the train split")
    return {kind: tuple(sorted(texts)) for kind, texts in found.items()}


def draw_caption(color: str, shape: str, generator: random.Random) -> str:
    """Draw one caption of a picture."""
    return generator.choice(CAPTION_TEMPLATES).format(color=color, shape=shape)


def draw_question(
    kind: Kind,
    wordings: Mapping[Kind, Sequence[str]],
    color: str,
    shape: str,
    generator: random.Random,
) -> Question:
    """Draw a question about a picture; half of the yes/no questions ask for what is there."""
    wording = generator.choice(wordings[kind])
    asked_color, asked_shape = color, shape
    if kind in ("positive", "negated") and generator.random() < 0.5:
        asked_color = generator.choice([other for other in COLORS if other != color])
        asked_shape = generator.choice([other for other in SHAPES if other != shape])
    text = wording.format(color=asked_color, shape=asked_shape)
    answer = true_answer(text, color, shape)
    return Question(text, draw_choices(question_type(text), answer, generator), answer)


class OneShape:
    """Pictures of one coloured shape (a `Topic`); negated questions are the hard ones.

    Args:
        wordings: of the train split's questions.
    """

    words = (*COLORS, *SHAPES, *YES_NO)
    answers = words
    retell = None
    talk = None

    def __init__(self, wordings: Mapping[Kind, Sequence[str]]) -> None:
        self._wordings = wordings

    def tokenizer_lines(self, generator: random.Random) -> list[str]:
        """Return prompts, captions and drills."""
        lines = []
        for _ in range(TOKENIZER_LINES):
            color, shape = generator.choice(COLORS), generator.choice(SHAPES)
            kind = generator.choice(tuple(self._wordings))
            question = draw_question(kind, self._wordings, color, shape, generator)
            caption = draw_caption(color, shape, generator)
            letter = LETTERS[question.choices.index(question.answer)]
            prompt = render_prompt(question, generator.choice([caption, "N/A"]), generator)
            lines += [f"{prompt} {letter}.", f"a picture of {caption}"]
            lines.append(f"Image: {generator.choice(['N/A', f'{color} {shape}'])}")
            others = f"{generator.choice(COLORS)} {generator.choice(LETTERS)}"
            lines.append(f"answer is {question.answer}. (A) {question.answer} {others}")
        return lines

    def draw(self, generator: random.Random, *, hard_share: float) -> Told:
        """Draw a question about a picture."""
        color, shape = generator.choice(COLORS), generator.choice(SHAPES)
        kind = self._draw_kind(generator, hard_share)
        return self._told(
            draw_question(kind, self._wordings, color, shape, generator), color, shape
        )

    @staticmethod
    def kind_of(problem: Problem) -> str:
        """Return the type of a question."""
        return question_type(problem.question)

    def draw_for_caption(self, generator: random.Random) -> Told:
        """Draw a picture."""
        color, shape = generator.choice(COLORS), generator.choice(SHAPES)
        return self._told(Question("", (), ""), color, shape)

    def _told(self, question: Question, color: str, shape: str) -> Told:
        return Told(
            question,
            lambda generator: draw_caption(color, shape, generator),
            f"{color} {shape}",
            ((color, shape),),
        )

    def _draw_kind(self, generator: random.Random, negated_share: float) -> Kind:
        if generator.random() < WORD_SHARE:
            return generator.choices(("color", "shape"), (3, 2))[0]  # type: ignore[return-value]
        return "negated" if generator.random() < negated_share else "positive"
