"""Instructions: LaVIN's data to learn from, the MME benchmark to be evaluated on."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ademvl.config.dataset import DatasetSettings
from ademvl.config.run import RunSettings
from ademvl.data.choices import TextRule
from ademvl.data.examples import Example
from ademvl.errors import DataError
from ademvl.tasks.base import FileAnswers, RightAnswers, Row, Task
from ademvl.tasks.instruction.examples import instruction_training_examples
from ademvl.tasks.instruction.facts import FACTS
from ademvl.tasks.instruction.reader import INSTRUCTION_FILE
from ademvl.tasks.lmms_samples import REMEDY, as_lines, lmms_sample
from ademvl.tasks.mme.examples import mme_examples
from ademvl.tasks.mme.files import picture_and_question, read_mme_answers
from ademvl.tasks.mme.questions import MmeCorpus, MmeQuestions
from ademvl.tasks.mme.reader import TASKS, load_benchmark
from ademvl.tasks.mme.scores import parse_answer
from ademvl.tasks.texts import Texts, rows_of

ALPACA_ITEMS = 52_002
"""Items of Alpaca's alpaca_data.json, the text-only part of LaVIN's instructions."""
INSTRUCTION_IMAGES, INSTRUCTION_IMAGE_ITEMS = 81_479, 157_712
"""Images and conversations of LLaVA-Instruct-150K. LaVIN's file has an item for each question and
answer, and so more of them: how many is known when it is there."""
MME_QUESTIONS, MME_IMAGES = 2_374, 1_187
"""Of the MME benchmark (arXiv 2306.13394), two questions an image."""


class InstructionTask(Task):
    """See `Task`."""

    facts = FACTS
    value_key, value_type, value_words = "text", str, "text"
    corpus = MmeCorpus()

    def training_examples(self, run: RunSettings) -> list[Example]:
        """Render LaVIN's instructions."""
        return instruction_training_examples(Path(run.data_dir), run.images)

    def questions(self, root: Path, split: str, *, look_at_images: bool = True) -> MmeQuestions:
        """Read MME, whole or some of its tasks; it has no splits."""
        return MmeQuestions(load_benchmark(root))

    def training_texts(self, run: RunSettings) -> Texts:
        """Render those rows alone that are chosen."""
        rows = rows_of(Path(run.data_dir) / INSTRUCTION_FILE)
        shown = run.images == "shown"
        return Texts.of_rows(
            rows,
            partial(_planned, run),
            length=lambda row: len(row["instruction"]) + len(row.get("answer", "")),
            images=len({row.get("image") for row in rows} - {None}) if shown else 0,
        )

    def evaluation_texts(self, run: RunSettings) -> Texts:
        """Read all questions."""
        if not Path(run.evaluation_data_dir).is_dir():
            raise DataError(f"{run.evaluation_data_dir}: no such folder")
        return super().evaluation_texts(run)

    def published_sizes(
        self, run: RunSettings, dataset: DatasetSettings, *, is_training: bool
    ) -> tuple[int, int, int]:
        """Return those of Alpaca with LLaVA-Instruct-150K, or of MME."""
        if not is_training:
            return MME_QUESTIONS, MME_QUESTIONS, MME_IMAGES
        items = ALPACA_ITEMS + INSTRUCTION_IMAGE_ITEMS
        return items, INSTRUCTION_IMAGE_ITEMS, INSTRUCTION_IMAGES

    def right_answers(self, root: Path, split: str) -> RightAnswers:
        """Return yes or no by question."""
        questions = load_benchmark(root)
        pairs = list(zip(mme_examples(questions), questions, strict=True))
        return RightAnswers(
            by_id={example.item_id: item.gold.strip().lower() for example, item in pairs},
            contents={example.item_id: (item.question, item.gold) for example, item in pairs},
        )

    def is_right(self, value: Any, answer: Any) -> bool:
        """Tell whether the text says what is right, by the rule of the benchmark's own tool."""
        return parse_answer(str(value)) == answer

    def is_data(self, root: Path) -> bool:
        """Tell it by a task's folder."""
        return any((root / task).is_dir() for task in TASKS)

    def answers_in_file(
        self, path: Path, root: Path, split: str, *, text_rule: TextRule = "free-text"
    ) -> FileAnswers:
        """Read it as `ademvl score mme` does."""
        found = {
            picture_and_question(task, answer.image, answer.question): answer.answer
            for task, answers in read_mme_answers(path, root).items()
            for answer in answers
        }
        questions = load_benchmark(root)
        places = [
            (example.item_id, picture_and_question(item.task, item.image.name, item.question))
            for example, item in zip(mme_examples(questions), questions, strict=True)
        ]
        return FileAnswers(values={item: found[place] for item, place in places if place in found})

    def in_other_format(self, run: RunSettings, path: Path, rows: Sequence[Row]) -> str:
        """Return samples of lmms-eval."""
        questions = load_benchmark(Path(run.evaluation_data_dir))
        samples: list[dict[str, object]] = []
        if len(questions) != len(rows):
            raise DataError(f"{path}: {len(rows)} answers to {len(questions)} questions. {REMEDY}")
        for question, row in zip(questions, rows, strict=True):
            doc = {
                "question_id": f"{question.task}/{question.image.name}",
                "category": question.task,
                "question": question.question,
                "answer": question.gold,
            }
            samples.append(lmms_sample(len(samples), doc, question.gold, str(row["text"])))
        return as_lines(samples)


def _planned(run: RunSettings, row: Any) -> Example:
    image = Path(row["image"]) if row["image"] is not None and run.images == "shown" else None
    return Example("", str(row["instruction"]), str(row["answer"]), image)


TASK = InstructionTask()
