"""Text that the mini language model learns from: fresh questions in the train split's wordings.

Every row is a prompt of the ScienceQA formats, a caption, or a drill in which the word of a choice
is followed by its letter. What the picture shows stands in the context, or in one slot behind
"Image: ", where the two words' embeddings are mixed and disturbed by noise, because adapters write
a vector there later. All of it is text: no picture is read.
"""

import io
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import sentencepiece

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
from ademvl.data.scienceqa import load_scienceqa
from ademvl.errors import DataError

LETTERS = "ABCD"
TOKENIZER_LINES = 4000
WORD_SHARE = 0.4
"""Of the questions that ask for a colour or a shape; the rest are yes/no questions."""
Kind = Literal["color", "shape", "positive", "negated"]


@dataclass
class Row:
    """Token ids with a loss weight for each token, and where special rules apply.

    Attributes:
        ids: token ids.
        weights: loss weight of predicting each token.
        labels: tokens to predict at each place; None for the next tokens.
        answer_places: places whose hidden states in the middle layer should know the answer word.
        answer_id: that word.
        slot: place of the slot.
        slot_words: tokens of colour and shape that are mixed in the slot.
    """

    ids: list[int]
    weights: list[float]
    labels: list[int] | None = None
    answer_places: list[int] = field(default_factory=list)
    answer_id: int = 0
    slot: int | None = None
    slot_words: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Question:
    """A question about a picture of one coloured shape."""

    text: str
    choices: tuple[str, ...]
    answer: str


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


def train_tokenizer(wordings: Mapping[Kind, Sequence[str]], *, vocab_size: int, seed: int) -> bytes:
    """Train a SentencePiece model of LLaMA's kind, in which every word is a single piece."""
    generator = random.Random(seed)
    lines = []
    for _ in range(TOKENIZER_LINES):
        color, shape = generator.choice(COLORS), generator.choice(SHAPES)
        kind = generator.choice(tuple(wordings))
        question = draw_question(kind, wordings, color, shape, generator)
        caption = draw_caption(color, shape, generator)
        letter = LETTERS[question.choices.index(question.answer)]
        prompt = render_prompt(question, generator.choice([caption, "N/A"]), generator)
        lines += [f"{prompt} {letter}.", f"a picture of {caption}"]
        lines.append(f"Image: {generator.choice(['N/A', f'{color} {shape}'])}")
        others = f"{generator.choice(COLORS)} {generator.choice(LETTERS)}"
        lines.append(f"answer is {question.answer}. (A) {question.answer} {others}")
    text = "\n".join(lines).replace("Response:", "Response:\n")
    sentences = [line for line in re.sub(r"([?.])", r"\n\1", text).split("\n") if line]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        split_digits=True,
        character_coverage=1.0,
        split_by_unicode_script=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


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


def render_prompt(question: Question, context: str, generator: random.Random) -> str:
    """Render a question in format CQM or QCM, up to the answer's cue."""
    lines = [f"Context: {context}", f"Question: {question.text}"]
    if generator.random() < 0.5:
        lines.reverse()
    options = " ".join(
        f"({letter}) {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False)
    )
    return "\n".join([*lines, f"Options: {options}", "Response:The answer is"])


class RowMaker:
    """Draws rows of token ids.

    Args:
        tokenizer: of the model.
        wordings: of the train split's questions.
        generator: of all draws.
        text_weight: loss weight of the tokens of a prompt.
        caption_weight: loss weight of a caption's tokens.
    """

    def __init__(
        self,
        tokenizer: sentencepiece.SentencePieceProcessor,
        wordings: Mapping[Kind, Sequence[str]],
        generator: random.Random,
        *,
        text_weight: float,
        caption_weight: float,
    ) -> None:
        self._encode = tokenizer.encode
        self._wordings = wordings
        self._generator = generator
        self._text_weight = text_weight
        self._caption_weight = caption_weight
        self._words = {
            word: tokenizer.piece_to_id(f"▁{word}") for word in (*COLORS, *SHAPES, *YES_NO)
        }
        self._letters = [tokenizer.piece_to_id(f"▁{letter}") for letter in LETTERS]
        self._newline = tokenizer.piece_to_id("<0x0A>")
        single = [*self._words.values(), *self._letters, self._newline]
        if tokenizer.unk_id() in single:
            raise DataError("the tokenizer does not keep every word and letter in one piece")

    def drill(self, num_queries: int = 8) -> Row:
        """Options, then words of them, each followed by its letter."""
        generator = self._generator
        words = generator.sample(list(self._words), generator.choice([2, 3, 4, 4]))
        options = " ".join(f"({x}) {word}" for x, word in zip(LETTERS, words, strict=False))
        ids = [1, *self._encode(options), self._newline]
        labels, weights = [0] * len(ids), [0.0] * len(ids)
        for _ in range(num_queries):
            index = generator.randrange(len(words))
            ids.append(self._words[words[index]])
            labels.append(self._letters[index])
            weights.append(1.0)
        return Row(ids, weights, labels)

    def question(self, *, negated_share: float, slot_share: float) -> Row:
        """A question with its answer's letter; the information stands in context, slot or nowhere.

        Args:
            negated_share: of the yes/no questions.
            slot_share: of the rows with an image prefix that mix the words in one slot.
        """
        generator = self._generator
        color, shape = generator.choice(COLORS), generator.choice(SHAPES)
        kind = self._draw_kind(negated_share)
        question = draw_question(kind, self._wordings, color, shape, generator)
        place = generator.choices(("context", "prefix", "both", "nowhere"), (45, 45, 8, 2))[0]
        context = draw_caption(color, shape, generator) if place in ("context", "both") else "N/A"
        has_prefix = place in ("prefix", "both")
        row = self._head(color, shape, has_prefix=has_prefix, slot_share=slot_share)
        letter = LETTERS[question.choices.index(question.answer)]
        prompt = render_prompt(question, context, generator)
        body = [*self._encode(f"{prompt} {letter}."), 2]
        offset = len(row.ids)
        row.ids += body
        row.weights += [self._text_weight] * len(body)
        row.weights[-3] = 1.0
        if place != "nowhere":
            row.answer_places = self._answer_places(body, offset)
            row.answer_id = self._words[question.answer]
        return row

    def caption(self, *, slot_share: float) -> Row:
        """A caption behind "a picture of", doubled or not."""
        generator = self._generator
        color, shape = generator.choice(COLORS), generator.choice(SHAPES)
        row = self._head(color, shape, has_prefix=generator.random() < 0.7, slot_share=slot_share)
        text = "a picture of " * generator.choice([1, 2]) + draw_caption(color, shape, generator)
        body = [*self._encode(text), 2]
        row.ids += body
        row.weights += [self._caption_weight] * len(body)
        return row

    def _draw_kind(self, negated_share: float) -> Kind:
        if self._generator.random() < WORD_SHARE:
            return self._generator.choices(("color", "shape"), (3, 2))[0]  # type: ignore[return-value]
        return "negated" if self._generator.random() < negated_share else "positive"

    def _head(self, color: str, shape: str, *, has_prefix: bool, slot_share: float) -> Row:
        if not has_prefix:
            ids = [1, *self._encode("Image: N/A")]
            return Row(ids, [0.0] * len(ids))
        if self._generator.random() >= slot_share:
            ids = [1, *self._encode(f"Image: {color} {shape}")]
            return Row(ids, [0.0] * len(ids))
        ids = [1, *self._encode("Image: ")]
        words = (self._words[color], self._words[shape])
        return Row([*ids, 0], [0.0] * (len(ids) + 1), slot=len(ids), slot_words=words)

    def _answer_places(self, body: Sequence[int], offset: int) -> list[int]:
        """Ends of the question line and the cue: where the answer word can be known."""
        lines = [place for place, token_id in enumerate(body) if token_id == self._newline]
        ends = range(lines[1] - 1, lines[1] + 4), range(lines[2], len(body) - 3)
        return [offset + place for places in ends for place in places]
