"""What MME asks, how its rows are scored, and what its scores sum up over images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ademvl.config.run import RunSettings
from ademvl.config.tasks import largest_score
from ademvl.data.choices import NO_ANSWER
from ademvl.data.examples import Example
from ademvl.statistics.intervals import Estimate, Floats, bootstrap_intervals
from ademvl.tasks.base import Questions, Row, ShownQuestion
from ademvl.tasks.instruction.facts import FACTS
from ademvl.tasks.mme.examples import mme_examples
from ademvl.tasks.mme.reader import PERCEPTION, TASKS, MmeAnswer, MmeQuestion
from ademvl.tasks.mme.scores import parse_answer, score_answers

_CHOICES = ("Yes", "No")
_SAID: Mapping[str, int] = {"yes": 0, "no": 1, "other": NO_ANSWER}
_COUNTS = 4  # of each task: images, those with both right, questions, right ones


class MmeQuestions(Questions):
    """Questions of the benchmark, whole or some of its tasks."""

    facts = FACTS

    def __init__(self, questions: Sequence[MmeQuestion]) -> None:
        self.questions = questions

    @property
    def item_ids(self) -> list[str]:
        """Task, picture and number of each question."""
        return [example.item_id for example in mme_examples(self.questions)]

    def examples(self, run: RunSettings) -> list[Example]:
        """Render each question as an instruction."""
        return mme_examples(self.questions, run.images)

    @property
    def texts(self) -> Sequence[object]:
        """Task, picture and question."""
        return [[item.task, item.image.name, item.question] for item in self.questions]

    @property
    def answers(self) -> Sequence[object]:
        """Yes or no, as published."""
        return [question.gold for question in self.questions]

    @property
    def images(self) -> Sequence[Path]:
        """A picture for each question."""
        return [question.image for question in self.questions]

    def score(self, rows: Sequence[Row]) -> dict[str, object]:
        """Score as the benchmark's own tool does.

        A benchmark that is cut down on purpose is scored, too; its scores say what is missing, and
        sums of groups that lack anything are null.
        """
        return score_answers(answers_by_task(self.questions, rows))

    def shown(self) -> Sequence[ShownQuestion]:
        """Return the questions with two choices."""
        return [
            ShownQuestion(
                item_id=item_id,
                question=item.question,
                choices=_CHOICES,
                answer_index=_SAID[item.gold.strip().lower()],
                image=item.image,
                kinds=(item.task,),
                about=item.task.replace("_", " "),
            )
            for item_id, item in zip(self.item_ids, self.questions, strict=True)
        ]

    def chosen(self, row: Mapping[str, Any]) -> object:
        """Read yes or no off the text."""
        return _SAID[parse_answer(str(row["text"]))]


def answers_by_task(
    questions: Sequence[MmeQuestion], rows: Sequence[Row]
) -> dict[str, list[MmeAnswer]]:
    """Put rows of predictions beside their questions, by task of the benchmark."""
    answers: dict[str, list[MmeAnswer]] = {}
    for question, row in zip(questions, rows, strict=True):
        answer = MmeAnswer(
            question.image.name, question.question, question.gold, str(row["text"]).strip()
        )
        answers.setdefault(question.task, []).append(answer)
    return answers


class MmeCorpus:
    """See `CorpusScores`; items are images, as both questions of one are answered together.

    Of a benchmark that is cut down, the sums are over the tasks that there are.
    """

    names = ("MME-P", "MME-C", "accuracy", "accuracy+")
    limits = tuple((0.0, largest_score(name) / 100) for name in names)

    def item_sums(
        self, answers: Mapping[str, Any], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Floats]:
        """Return four counts of each task, (images, 4 * tasks)."""
        return [_image_counts(answers, found) for found in predictions]

    def totals(self, sums: Floats, *, n: int) -> Floats:
        """Return the scores; points of a task count as hundredths."""
        counts = sums.reshape(len(sums), len(TASKS), _COUNTS)
        images, both, questions, right = np.moveaxis(counts, 2, 0)  # (rows, tasks) each
        by_task = right / np.maximum(questions, 1) + both / np.maximum(images, 1)
        return np.column_stack(
            [
                by_task[:, : len(PERCEPTION)].sum(axis=1),
                by_task[:, len(PERCEPTION) :].sum(axis=1),
                right.sum(axis=1) / questions.sum(axis=1),
                both.sum(axis=1) / images.sum(axis=1),
            ]
        )

    def estimates(self, values: Floats, *, seed: int) -> dict[str, Estimate]:
        """Return the scores with bootstrap intervals over images."""
        n = len(values)
        scores = self.totals(values.sum(axis=0, keepdims=True), n=n)[0]
        intervals = bootstrap_intervals(
            values, lambda sums: self.totals(sums, n=n), seed=seed, limits=self.limits
        )
        return {
            name: Estimate(
                value=float(score),
                ci_low=interval.low,
                ci_high=interval.high,
                n=n,
                method=interval.method,
            )
            for name, score, interval in zip(self.names, scores, intervals, strict=True)
        }

    def held_fixed(self, name: str) -> str:
        """Nothing is."""
        return ""


def _image_counts(answers: Mapping[str, Any], found: Mapping[str, Any]) -> Floats:
    right_of: dict[tuple[str, str], list[bool]] = {}
    for item, gold in answers.items():
        task, image, _ = item.split("/")
        right_of.setdefault((task, image), []).append(parse_answer(str(found[item])) == gold)
    places = {task: _COUNTS * number for number, task in enumerate(TASKS)}
    values = np.zeros((len(right_of), _COUNTS * len(TASKS)))
    for row, ((task, _), right) in zip(values, right_of.items(), strict=True):
        row[places[task] : places[task] + _COUNTS] = (1, all(right), len(right), sum(right))
    return values
