"""Rows of token ids that a mini language model learns from, whatever they are about.

Every row is a prompt of the ScienceQA formats, a caption, or a drill in which the word of a choice
is followed by its letter. What the picture shows stands in the context, behind "Image: ", or there
in slots, where the embeddings of its words are mixed and disturbed by noise, because adapters write
vectors there later. All of it is text: no picture is read. What is told and asked comes from a
`Topic`.
"""

import io
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import sentencepiece

from ademvl.errors import DataError
from ademvl.tasks.scienceqa.reader import Problem

LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question with its options."""

    text: str
    choices: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Told:
    """A question about a picture, and ways to tell what the picture shows.

    Attributes:
        question: it.
        caption: draws a caption that answers it.
        prefix: the same, for behind "Image: ".
        slots: the words that are mixed in each slot.
        has_aside: whether the answer's word may be found anywhere in the question, too.
    """

    question: Question
    caption: Callable[[random.Random], str]
    prefix: str
    slots: tuple[tuple[str, ...], ...]
    has_aside: bool = False


class Topic(Protocol):
    """What a language model learns to talk about.

    Attributes:
        words: of answers and slots; the tokenizer keeps each in one piece.
        answers: the words that drills ask for.
    """

    words: tuple[str, ...]
    answers: tuple[str, ...]

    def tokenizer_lines(self, generator: random.Random) -> list[str]:
        """Return texts to train the tokenizer on."""

    def draw(self, generator: random.Random, *, hard_share: float) -> Told:
        """Draw a question; `hard_share` is that of the hard ones where it may be of either sort."""

    @staticmethod
    def kind_of(problem: Problem) -> str:
        """Return what a question of the data set is about."""

    def draw_for_caption(self, generator: random.Random) -> Told:
        """Draw a picture; its question does not matter."""


@dataclass
class Row:
    """Token ids with a loss weight for each token, and where special rules apply.

    Attributes:
        ids: token ids.
        weights: loss weight of predicting each token.
        labels: tokens to predict at each place; None for the next tokens.
        answer_places: places whose hidden states in the middle layer should know the answer word.
        answer_id: that word.
        slots: place of each slot, and the tokens that are mixed in it.
    """

    ids: list[int]
    weights: list[float]
    labels: list[int] | None = None
    answer_places: list[int] = field(default_factory=list)
    answer_id: int = 0
    slots: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)


def train_tokenizer(topic: Topic, *, vocab_size: int, seed: int) -> bytes:
    """Train a SentencePiece model of LLaMA's kind, in which every word is a single piece."""
    lines = topic.tokenizer_lines(random.Random(seed))
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


def render_prompt(question: Question, context: str, generator: random.Random) -> str:
    """Render a question in format CQM or QCM, up to the answer's cue."""
    lines = [f"Context: {context}", f"Question: {question.text}"]
    if generator.random() < 0.5:
        lines.reverse()
    options = " ".join(
        f"({letter}) {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False)
    )
    return "\n".join([*lines, f"Options: {options}", "Response:The answer is"])


def _insert(word: str, text: str, generator: random.Random) -> str:
    """Put a word somewhere between those of a text."""
    words = text.split(" ")
    words.insert(generator.randrange(len(words)), word)
    return " ".join(words)


class RowMaker:
    """Draws rows of token ids.

    Args:
        tokenizer: of the model.
        topic: what is told and asked.
        generator: of all draws.
        text_weight: loss weight of the tokens of a prompt.
        caption_weight: loss weight of a caption's tokens.
    """

    def __init__(
        self,
        tokenizer: sentencepiece.SentencePieceProcessor,
        topic: Topic,
        generator: random.Random,
        *,
        text_weight: float,
        caption_weight: float,
    ) -> None:
        self._encode = tokenizer.encode
        self._topic = topic
        self._generator = generator
        self._text_weight = text_weight
        self._caption_weight = caption_weight
        self._words = {word: tokenizer.piece_to_id(f"▁{word}") for word in topic.words}
        self._letters = [tokenizer.piece_to_id(f"▁{letter}") for letter in LETTERS]
        self._newline = tokenizer.piece_to_id("<0x0A>")
        single = [*self._words.values(), *self._letters, self._newline]
        if tokenizer.unk_id() in single:
            raise DataError("the tokenizer does not keep every word and letter in one piece")

    def drill(self, num_queries: int = 8) -> Row:
        """Options, then words of them, each followed by its letter."""
        generator = self._generator
        words = generator.sample(self._topic.answers, generator.choice([2, 3, 4, 4]))
        options = " ".join(f"({x}) {word}" for x, word in zip(LETTERS, words, strict=False))
        ids = [1, *self._encode(options), self._newline]
        labels, weights = [0] * len(ids), [0.0] * len(ids)
        for _ in range(num_queries):
            index = generator.randrange(len(words))
            ids.append(self._words[words[index]])
            labels.append(self._letters[index])
            weights.append(1.0)
        return Row(ids, weights, labels)

    def question(self, *, hard_share: float, slot_share: float) -> Row:
        """A question with its answer's letter; what tells it stands in context, slots, or nowhere.

        Args:
            hard_share: see `Topic.draw`.
            slot_share: of the rows with an image prefix that mix the words in slots.
        """
        generator = self._generator
        told = self._topic.draw(generator, hard_share=hard_share)
        question = told.question
        shares = (45, 45, 8, 2, 45 * told.has_aside)
        place = generator.choices(("context", "prefix", "both", "nowhere", "aside"), shares)[0]
        context = told.caption(generator) if place in ("context", "both") else "N/A"
        row = self._head(told, has_prefix=place in ("prefix", "both"), slot_share=slot_share)
        letter = LETTERS[question.choices.index(question.answer)]
        if place == "aside":
            question = replace(question, text=_insert(question.answer, question.text, generator))
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
        told = self._topic.draw_for_caption(generator)
        row = self._head(told, has_prefix=generator.random() < 0.7, slot_share=slot_share)
        text = "a picture of " * generator.choice([1, 2]) + told.caption(generator)
        body = [*self._encode(text), 2]
        row.ids += body
        row.weights += [self._caption_weight] * len(body)
        return row

    def _head(self, told: Told, *, has_prefix: bool, slot_share: float) -> Row:
        if not has_prefix:
            ids = [1, *self._encode("Image: N/A")]
            return Row(ids, [0.0] * len(ids))
        if self._generator.random() >= slot_share:
            ids = [1, *self._encode(f"Image: {told.prefix}")]
            return Row(ids, [0.0] * len(ids))
        ids = [1, *self._encode("Image: ")]
        slots = [
            (len(ids) + index, tuple(self._words[word] for word in words))
            for index, words in enumerate(told.slots)
        ]
        ids += [0] * len(slots)
        return Row(ids, [0.0] * len(ids), slots=slots)

    def _answer_places(self, body: Sequence[int], offset: int) -> list[int]:
        """Ends of the question line and the cue: where the answer word can be known."""
        lines = [place for place, token_id in enumerate(body) if token_id == self._newline]
        ends = range(lines[1] - 1, lines[1] + 4), range(lines[2], len(body) - 3)
        return [offset + place for places in ends for place in places]
