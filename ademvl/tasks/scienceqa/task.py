"""ScienceQA: multiple-choice questions, some with an image, answered by a letter."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.data.choices import NO_ANSWER, TextRule
from ademvl.data.examples import Example
from ademvl.errors import DataError
from ademvl.tasks.base import FileAnswers, Questions, RightAnswers, Row, ShownQuestion, Task
from ademvl.tasks.lmms_samples import REMEDY, as_lines, lmms_sample, rows_by_id
from ademvl.tasks.scienceqa.examples import (
    scienceqa_evaluation_examples,
    scienceqa_training_examples,
)
from ademvl.tasks.scienceqa.facts import FACTS
from ademvl.tasks.scienceqa.files import read_predictions
from ademvl.tasks.scienceqa.reader import (
    OFFICIAL_IMAGES,
    OFFICIAL_PROBLEMS,
    PROBLEMS_FILE,
    Problem,
    ScienceQA,
    load_scienceqa,
)
from ademvl.tasks.scienceqa.scores import COLUMNS, score_scienceqa
from ademvl.tasks.texts import Texts

_SCORED_ANSWER = 10  # "The answer is A." and the end token, generously
_VAL_IMAGES = 2_097
"""Of the 10,332; train has 6,218 (arXiv 2209.09513)."""


class ScienceQAQuestions(Questions):
    """Problems of one split."""

    facts = FACTS

    def __init__(self, dataset: ScienceQA, split: str) -> None:
        self._dataset = dataset
        self._split = split
        self.problems = dataset.split(split)

    @property
    def item_ids(self) -> list[str]:
        """Ids of the problems."""
        return [problem.question_id for problem in self.problems]

    @property
    def num_choices(self) -> Mapping[str, int]:
        """How many choices each problem has."""
        return {problem.question_id: len(problem.choices) for problem in self.problems}

    def examples(self, run: RunSettings) -> list[Example]:
        """Render each problem, see `scienceqa_evaluation_examples`."""
        return scienceqa_evaluation_examples(self._dataset, self._split, run.prompts, run.images)

    @property
    def texts(self) -> Sequence[object]:
        """All of each problem but its answer."""
        return [{**vars(problem), "answer_index": None} for problem in self.problems]

    @property
    def answers(self) -> Sequence[object]:
        """Indices of the right choices."""
        return [problem.answer_index for problem in self.problems]

    @property
    def images(self) -> Sequence[Path]:
        """Pictures of those that have one."""
        found = map(self._dataset.image_path, self.problems)
        return [path for path in found if path]

    def score(self, rows: Sequence[Row]) -> dict[str, object]:
        """Score in the nine published columns."""
        predicted = {str(row["id"]): int(str(row["predicted_index"])) for row in rows}
        columns = score_scienceqa(self.problems, predicted)
        return {
            "columns": {name: column.to_json() for name, column in columns.items()},
            "num_without_answer": sum(index == NO_ANSWER for index in predicted.values()),
        }

    def shown(self) -> Sequence[ShownQuestion]:
        """Return the problems as the page shows them."""
        return [
            ShownQuestion(
                item_id=problem.question_id,
                question=problem.question,
                choices=problem.choices,
                answer_index=problem.answer_index,
                image=self._dataset.image_path(problem),
                kinds=_columns_of(problem),
                about=f"{problem.subject}, {problem.grade.replace('grade', 'grade ')}",
                skill=problem.skill,
            )
            for problem in self.problems
        ]


class ScienceQATask(Task):
    """See `Task`."""

    facts = FACTS
    value_key, value_type, value_words = "predicted_index", int, "choice index"

    def training_examples(self, run: RunSettings) -> list[Example]:
        """Render the train split."""
        dataset = load_scienceqa(Path(run.data_dir))
        return scienceqa_training_examples(dataset, run.prompts, run.images)

    def questions(
        self, root: Path, split: str, *, look_at_images: bool = True
    ) -> ScienceQAQuestions:
        """Read a split; images are not looked at in either case."""
        return ScienceQAQuestions(load_scienceqa(root), split)

    def training_texts(self, run: RunSettings) -> Texts:
        """Read all of them, once for all runs on a data set."""
        dataset = _dataset(Path(run.data_dir))
        return Texts.of(scienceqa_training_examples(dataset, run.prompts, run.images))

    def evaluation_texts(self, run: RunSettings) -> Texts:
        """Read all of them, once for all runs on a data set."""
        dataset = _dataset(Path(run.data_dir))
        return Texts.of(ScienceQAQuestions(dataset, run.evaluation.split).examples(run))

    def published_sizes(
        self, run: RunSettings, dataset: DatasetSettings, *, is_training: bool
    ) -> tuple[int, int, int]:
        """Return those of the paper, or of a made-up data set, as far as they are taken."""
        split = "train" if is_training else run.evaluation.split
        if dataset.is_mini:
            questions = int(getattr(dataset, f"{split}_questions"))
            with_image = round(questions * (1 - dataset.text_only_fraction))
            return questions, with_image, with_image
        in_test = OFFICIAL_IMAGES["test images"]
        in_train = OFFICIAL_IMAGES["images"] - in_test - _VAL_IMAGES
        images = {"test": in_test, "val": _VAL_IMAGES}.get(split, in_train)
        whole = OFFICIAL_PROBLEMS[split]
        items = min(dataset.take.get(split, whole), whole)
        images = round(images * items / whole)
        return items, images, images

    def most_scored(self, run: RunSettings) -> int | None:
        """The letter's sentence is short; explanations are not."""
        return _SCORED_ANSWER if run.prompts.train_format.endswith("-A") else None

    def right_answers(self, root: Path, split: str) -> RightAnswers:
        """Return each right choice, and the columns that a problem counts in."""
        problems = load_scienceqa(root).split(split)
        return RightAnswers(
            by_id={
                problem.question_id: {
                    "answer_index": problem.answer_index,
                    "columns": list(_columns_of(problem)),
                }
                for problem in problems
            },
            contents={
                problem.question_id: (problem.question, problem.choices, problem.answer_index)
                for problem in problems
            },
            num_choices={problem.question_id: len(problem.choices) for problem in problems},
        )

    def is_right(self, value: Any, answer: Any) -> bool:
        """Tell whether it is the right choice."""
        return bool(value == answer["answer_index"])

    def columns_of(self, answer: Any) -> Collection[str]:
        """Return the published columns that a problem counts in."""
        columns: list[str] = answer["columns"]
        return columns

    def is_data(self, root: Path) -> bool:
        """Tell it by the file of problems."""
        return (root / PROBLEMS_FILE).is_file()

    def answers_in_file(
        self, path: Path, root: Path, split: str, *, text_rule: TextRule = "free-text"
    ) -> FileAnswers:
        """Read it as `ademvl score scienceqa` does."""
        found = read_predictions(path, load_scienceqa(root).split(split), rule=text_rule)
        return FileAnswers(
            values=found.predicted_index,
            asked=[problem.question_id for problem in found.problems],
            num_unread=len(found.without_answer),
        )

    def row_of(self, item_id: str, value: Any) -> Row:
        """Return the row of a choice."""
        text = "" if value == NO_ANSWER else ascii_uppercase[value]
        return {"id": item_id, "text": text, "predicted_index": value}

    def in_other_format(self, run: RunSettings, path: Path, rows: Sequence[Row]) -> str:
        """Return samples of lmms-eval."""
        problems = load_scienceqa(Path(run.data_dir)).split(run.evaluation.split)
        by_id = rows_by_id(path, rows, [problem.question_id for problem in problems])
        samples: list[dict[str, object]] = []
        for problem in problems:
            index = int(str(by_id[problem.question_id]["predicted_index"]))
            if not NO_ANSWER <= index < len(problem.choices):
                what = f"question {problem.question_id}: choice {index}, of {len(problem.choices)}"
                raise DataError(f"{path}: {what}. {REMEDY}")
            answer = "" if index == NO_ANSWER else ascii_uppercase[index]
            doc = {"question": problem.question, "choices": list(problem.choices)}
            target = ascii_uppercase[problem.answer_index]
            samples.append(lmms_sample(len(samples), doc, target, answer))
        return as_lines(samples)


def _columns_of(problem: Problem) -> tuple[str, ...]:
    return tuple(name for name, belongs in COLUMNS.items() if belongs(problem))


@cache
def _dataset(root: Path) -> ScienceQA:
    return load_scienceqa(root)


TASK = ScienceQATask()
