"""What a task does, beside its facts: what is learned and asked, and what answers are worth.

A task is one object, `TASK` in `ademvl/tasks/<name>/task.py`, found by its name. Nothing here needs
a model: whoever asks one brings its answers as rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.config.task_facts import TaskFacts
from ademvl.data.choices import TextRule
from ademvl.data.examples import Example
from ademvl.statistics.intervals import Estimate, Floats
from ademvl.tasks.texts import Texts

Row = dict[str, object]
"""A prediction: `id` of its item, `text`, and what the task reads off it."""


@dataclass(frozen=True, kw_only=True)
class ShownQuestion:
    """A question as the page and fusion maps show it.

    Attributes:
        item_id: of the question.
        question, choices: texts.
        answer_index: of the right choice.
        image: file of the picture, None without one.
        kinds: names of the categories that it belongs to.
        about: what kind of question it is, in words.
        skill: that it asks for, in words.
    """

    item_id: str
    question: str
    choices: tuple[str, ...]
    answer_index: int
    image: Path | None
    kinds: tuple[str, ...] = ()
    about: str = ""
    skill: str = ""


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """An image with its reference captions."""

    item_id: str
    image: Path
    references: tuple[str, ...]


ShownItem = ShownQuestion | ShownImage


@dataclass(frozen=True, kw_only=True)
class RightAnswers:
    """What predictions of a split are compared with.

    Attributes:
        by_id: the right answers by item id, in data set order; JSON values, as bundles hold them.
        contents: by item id, what has to be the same on both sides of a comparison.
        num_choices: by item id, where a prediction is the index of a choice.
    """

    by_id: Mapping[str, Any]
    contents: Mapping[str, object]
    num_choices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FileAnswers:
    """What a file of somebody's predictions says.

    Attributes:
        values: by item id, what `Task.value_key` names in a row.
        asked: ids that the file is about, where these are a part of the split.
        num_unread: texts that name no choice.
    """

    values: Mapping[str, Any]
    asked: Collection[str] | None = None
    num_unread: int = 0


class CorpusScores(Protocol):
    """Scores that are no mean over items, such as BLEU: functions of what all items sum up to."""

    @property
    def names(self) -> Sequence[str]:
        """Of the scores."""
        ...

    @property
    def limits(self) -> Sequence[tuple[float, float]]:
        """Least and largest value of each."""
        ...

    def item_sums(
        self, answers: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Floats]:
        """Return what each set of predictions sums up, (n, k): one row an item.

        Raises:
            DataError, ToolError: they cannot be scored.
        """
        ...

    def totals(self, sums: Floats, *, n: int) -> Floats:
        """Return the scores, (rows, len(names)), from sums over n items, (rows, k)."""
        ...

    def estimates(self, values: Floats, *, seed: int) -> dict[str, Estimate]:
        """Return each score of items' values, (n, k), with its interval."""
        ...

    def held_fixed(self, name: str) -> str:
        """Return what the intervals of a score hold fixed, to stand behind their method."""
        ...


class Questions(ABC):
    """What a run is asked: the items of one split, in data set order, with their right answers."""

    facts: ClassVar[TaskFacts]
    """Of the task that it belongs to."""
    is_cheap: ClassVar[bool] = True
    """Whether scoring takes less than a second or two."""
    findings: Sequence[str] = ()
    """What is wrong with the data, where images were not to be looked at and it was read on."""

    @property
    @abstractmethod
    def item_ids(self) -> list[str]:
        """Ids of the items."""

    @property
    def num_choices(self) -> Mapping[str, int]:
        """How many choices each item has, by its id, where a letter answers."""
        return {}

    @abstractmethod
    def examples(self, run: RunSettings) -> list[Example]:
        """Render each item as a run is asked it.

        Raises:
            DataError: something that the prompts show is not there.
        """

    @property
    @abstractmethod
    def texts(self) -> Sequence[object]:
        """What is asked, as JSON values; checksums of it tell whether runs were asked the same."""

    @property
    @abstractmethod
    def answers(self) -> Sequence[object]:
        """What is right, as JSON values."""

    @property
    @abstractmethod
    def images(self) -> Sequence[Path]:
        """Files of all pictures that are shown."""

    @abstractmethod
    def score(self, rows: Sequence[Row]) -> dict[str, object]:
        """Score one row an item, ready for JSON."""

    @abstractmethod
    def shown(self) -> Sequence[ShownItem]:
        """Return the items as people see them."""

    def row(self, item_id: str, text: str) -> Row:
        """Return the row of a generated text."""
        return {"id": item_id, "text": text}

    def chosen(self, row: Mapping[str, Any]) -> object:
        """Return the index of the choice that a row names, -1 for none; None if it is malformed."""
        return row.get("predicted_index")


class Task(ABC):
    """What a task does."""

    facts: ClassVar[TaskFacts]
    value_key: ClassVar[str]
    """Key of a row under which stands what was predicted."""
    value_type: ClassVar[type]
    """Its type."""
    value_words: ClassVar[str]
    """What it is, in words."""
    corpus: ClassVar[CorpusScores | None] = None
    """Its scores where comparisons are not about the share of right answers."""
    every_prompt: ClassVar[str] = ""
    """Prompt of each item in evaluation, where all have the same."""

    @abstractmethod
    def training_examples(self, run: RunSettings) -> list[Example]:
        """Read and render the training split of a run's data set.

        Raises:
            DataError: the data set is missing or malformed.
        """

    @abstractmethod
    def questions(self, root: Path, split: str, *, look_at_images: bool = True) -> Questions:
        """Read what is asked.

        Args:
            root: folder of the data set that runs are evaluated on.
            split: of it.
            look_at_images: whether an image that is missing is refused, where the reader does.

        Raises:
            DataError: the data set is missing or malformed.
        """

    def training_texts(self, run: RunSettings) -> Texts:
        """Return what a plan needs of the training split, read lightly."""
        return Texts.of(self.training_examples(run))

    def evaluation_texts(self, run: RunSettings) -> Texts:
        """Return what a plan needs of what is asked, read lightly."""
        questions = self.questions(
            Path(run.evaluated_dir), run.evaluation.split, look_at_images=False
        )
        return Texts.of(questions.examples(run))

    @abstractmethod
    def published_sizes(
        self, run: RunSettings, dataset: DatasetSettings, *, is_training: bool
    ) -> tuple[int, int, int]:
        """Return items, items with an image, and different images, as they are published."""

    def most_scored(self, run: RunSettings) -> int | None:
        """Return the most tokens of an answer that is learned; None where nothing limits them."""
        return None

    @abstractmethod
    def right_answers(self, root: Path, split: str) -> RightAnswers:
        """Read what predictions are compared with, without looking at images.

        Raises:
            DataError: the data set is missing or malformed.
        """

    def is_right(self, value: Any, answer: Any) -> bool:
        """Tell whether what was predicted is right; `answer` as `RightAnswers.by_id` has it."""
        raise TypeError(f"answers to {self.facts.name} are not right or wrong")

    def columns_of(self, answer: Any) -> Collection[str]:
        """Return the headers of the score columns that an item counts in."""
        return (self.facts.main,)

    @abstractmethod
    def is_data(self, root: Path) -> bool:
        """Tell whether a folder holds what the task is evaluated on."""

    @abstractmethod
    def answers_in_file(
        self, path: Path, root: Path, split: str, *, text_rule: TextRule = "free-text"
    ) -> FileAnswers:
        """Read a file of predictions in any shape that is known.

        Args:
            root: folder of the data set that it answers.
            text_rule: how a text names a choice, see `ademvl score scienceqa`.

        Raises:
            DataError, ToolError: the file or the data set is missing or malformed.
        """

    def row_of(self, item_id: str, value: Any) -> Row:
        """Return the row of an answer that was read from a file."""
        return {"id": item_id, "text": value}

    def rows_in_file(self, run: RunSettings, *, text_rule: TextRule = "free-text") -> list[Row]:
        """Read the file of a run whose answers were measured elsewhere.

        Raises:
            DataError, ToolError: see `answers_in_file`.
        """
        found = self.answers_in_file(
            Path(run.released_from),
            Path(run.evaluated_dir),
            run.evaluation.split,
            text_rule=text_rule,
        )
        return [self.row_of(item, value) for item, value in found.values.items()]

    @abstractmethod
    def in_other_format(self, run: RunSettings, path: Path, rows: Sequence[Row]) -> str:
        """Return a run's predictions as text in the format of another program.

        Args:
            path: of the predictions, for messages.
            rows: one a prediction, with `value_key`.

        Raises:
            DataError: the rows are of other items than the data set has.
        """
