"""A-OKVQA, multiple choice: questions about COCO's images, answered by a letter."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.data.choices import NO_ANSWER, TextRule
from ademvl.data.examples import Example
from ademvl.tasks.aokvqa.examples import evaluation_examples, training_examples
from ademvl.tasks.aokvqa.facts import FACTS
from ademvl.tasks.aokvqa.files import read_answers
from ademvl.tasks.aokvqa.reader import (
    OFFICIAL_QUESTIONS,
    Question,
    load_questions,
    questions_file,
)
from ademvl.tasks.aokvqa.scores import score_choices
from ademvl.tasks.base import FileAnswers, Questions, RightAnswers, Row, ShownQuestion, Task
from ademvl.tasks.lmms_samples import rows_by_id
from ademvl.tasks.texts import Texts

_SCORED_ANSWER = 10  # "The answer is A." and the end token, generously


class AokvqaQuestions(Questions):
    """Questions of one split."""

    facts = FACTS

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = questions

    @property
    def item_ids(self) -> list[str]:
        """Ids of the questions."""
        return [item.question_id for item in self.questions]

    @property
    def num_choices(self) -> Mapping[str, int]:
        """Four each."""
        return {item.question_id: len(item.choices) for item in self.questions}

    def examples(self, run: RunSettings) -> list[Example]:
        """Render each question."""
        return evaluation_examples(self.questions, run.prompts, run.images)

    @property
    def texts(self) -> Sequence[object]:
        """Question and choices; which image stands in its number."""
        return [
            [item.question_id, item.question, item.choices, item.image_id]
            for item in self.questions
        ]

    @property
    def answers(self) -> Sequence[object]:
        """Indices of the right choices."""
        return [item.answer_index for item in self.questions]

    @property
    def images(self) -> Sequence[Path]:
        """An image for each question."""
        return [item.image for item in self.questions]

    def score(self, rows: Sequence[Row]) -> dict[str, object]:
        """Return the share of right choices, with its Wilson interval."""
        return score_choices(self.questions, [int(str(row["predicted_index"])) for row in rows])

    def shown(self) -> Sequence[ShownQuestion]:
        """Return the questions as the page shows them."""
        return [
            ShownQuestion(
                item_id=item.question_id,
                question=item.question,
                choices=item.choices,
                answer_index=item.answer_index,
                image=item.image,
            )
            for item in self.questions
        ]


class AokvqaTask(Task):
    """See `Task`."""

    facts = FACTS
    value_key, value_type, value_words = "predicted_index", int, "choice index"

    def training_examples(self, run: RunSettings) -> list[Example]:
        """Render the train split."""
        questions = load_questions(Path(run.data_dir), "train")
        return training_examples(questions, run.prompts, run.images)

    def questions(self, root: Path, split: str, *, look_at_images: bool = True) -> AokvqaQuestions:
        """Read a split."""
        return AokvqaQuestions(load_questions(root, split, look_at_images=look_at_images))

    def training_texts(self, run: RunSettings) -> Texts:
        """Read all questions without looking at images."""
        questions = load_questions(Path(run.data_dir), "train", look_at_images=False)
        return Texts.of(training_examples(questions, run.prompts, run.images))

    def published_sizes(
        self, run: RunSettings, dataset: DatasetSettings, *, is_training: bool
    ) -> tuple[int, int, int]:
        """Return those of the paper; some questions share an image, so there are fewer of these."""
        number = OFFICIAL_QUESTIONS["train" if is_training else run.evaluation.split]
        return number, number, number

    def most_scored(self, run: RunSettings) -> int | None:
        """The letter's sentence is short; rationales are not."""
        return _SCORED_ANSWER if run.prompts.train_format.endswith("-A") else None

    def right_answers(self, root: Path, split: str) -> RightAnswers:
        """Return each right choice."""
        questions = load_questions(root, split, look_at_images=False)
        return RightAnswers(
            by_id={item.question_id: item.answer_index for item in questions},
            contents={
                item.question_id: (item.question, item.choices, item.answer_index)
                for item in questions
            },
            num_choices={item.question_id: len(item.choices) for item in questions},
        )

    def is_right(self, value: Any, answer: Any) -> bool:
        """Tell whether it is the right choice."""
        return bool(value == answer)

    def is_data(self, root: Path) -> bool:
        """Tell it by the file of its val split."""
        return questions_file(root, "val").is_file()

    def answers_in_file(
        self, path: Path, root: Path, split: str, *, text_rule: TextRule = "free-text"
    ) -> FileAnswers:
        """Read texts of choices, see `read_answers`."""
        return read_answers(path, load_questions(root, split, look_at_images=False))

    def row_of(self, item_id: str, value: Any) -> Row:
        """Return the row of a choice."""
        text = "" if value == NO_ANSWER else ascii_uppercase[value]
        return {"id": item_id, "text": text, "predicted_index": value}

    def in_other_format(self, run: RunSettings, path: Path, rows: Sequence[Row]) -> str:
        """Return the object that the benchmark's own evaluation takes."""
        questions = load_questions(Path(run.data_dir), run.evaluation.split, look_at_images=False)
        by_id = rows_by_id(path, rows, [item.question_id for item in questions])
        texts = {}
        for item in questions:
            index = int(str(by_id[item.question_id]["predicted_index"]))
            texts[item.question_id] = item.choices[index] if index != NO_ANSWER else ""
        return json.dumps(texts)


TASK = AokvqaTask()
