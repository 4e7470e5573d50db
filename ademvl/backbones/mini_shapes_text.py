"""What the language models of `many_shapes` learn to talk about: scenes of several objects.

Scenes and questions are drawn afresh by the generators of the data set.
"""

import random
import re
from dataclasses import replace

from ademvl.backbones.mini_llm_rows import LETTERS, Question, Told, render_prompt
from ademvl.data.many_shapes import KIND_OF_SKILL
from ademvl.data.scene_captions import draw_caption, plural
from ademvl.data.scene_forms import ANSWER_WORDS, QuestionKind
from ademvl.data.scene_questions import AnswerBalance, draw_question
from ademvl.data.scenes import (
    PLACES,
    SHAPES,
    SIZES,
    STEPS,
    draw_scene,
)
from ademvl.tasks.scienceqa.reader import Problem

TOKENIZER_LINES = 4000
_LOOKED_UP: tuple[QuestionKind, ...] = ("number", "place", "name", "beside", "shown")
_CONCLUDED: tuple[QuestionKind, ...] = ("presence", "comparison")
_PARTS = re.compile(rf" (?:and|{'|'.join(STEPS)}) ")


class ManyShapes:
    """Scenes of several objects (a `Topic`); yes/no questions are the hard ones."""

    words = (*ANSWER_WORDS, *SIZES, *PLACES.values(), *map(plural, SHAPES), "object", "objects")
    answers = ANSWER_WORDS

    def __init__(self) -> None:
        self._balance = AnswerBalance()

    def tokenizer_lines(self, generator: random.Random) -> list[str]:
        """Return prompts, captions and drills."""
        lines = []
        for _ in range(TOKENIZER_LINES):
            told = self.draw(generator, hard_share=0.5)
            question = told.question
            letter = LETTERS[question.choices.index(question.answer)]
            prompt = render_prompt(question, generator.choice([told.prefix, "N/A"]), generator)
            caption = self.draw_for_caption(generator).caption(generator)
            lines += [f"{prompt} {letter}.", f"a picture of {caption}"]
            lines.append(f"Image: {generator.choice(['N/A', told.prefix])}")
            others = f"{generator.choice(ANSWER_WORDS)} {generator.choice(LETTERS)}"
            lines.append(f"answer is {question.answer}. (A) {question.answer} {others}")
        return lines

    def draw(self, generator: random.Random, *, hard_share: float) -> Told:
        """Draw a question about a scene."""
        kinds = _CONCLUDED if generator.random() < hard_share else _LOOKED_UP
        found = None
        while found is None:
            scene = draw_scene(generator)
            found = draw_question(scene, generator.choice(kinds), self._balance, generator)
        question = Question(found.text, found.choices, found.answer)
        return replace(self._told(question, found.hint), has_aside=True)

    @staticmethod
    def kind_of(problem: Problem) -> str:
        """Return the kind of a question."""
        return KIND_OF_SKILL[problem.skill]

    def draw_for_caption(self, generator: random.Random) -> Told:
        """Draw a scene."""
        return self._told(Question("", (), ""), draw_caption(draw_scene(generator), generator))

    def _told(self, question: Question, caption: str) -> Told:
        """Tell a caption; in slots each object, or each number, has one of its own."""
        parts = (part.split() for part in _PARTS.split(caption))
        slots = tuple(tuple(word for word in part if word in self.words) for part in parts)
        return Told(question, lambda _: caption, caption, slots)
