"""How a model is asked a task's questions: a letter by one forward pass, or text that it writes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ademvl.config.run import RunSettings
from ademvl.data.tokenizer import Tokenizer
from ademvl.evaluation.asked import ask
from ademvl.evaluation.choosing import answer_batch, letter_ids
from ademvl.evaluation.prediction_loop import Predict
from ademvl.evaluation.task import EvaluationTask
from ademvl.tasks.base import Questions, Row

if TYPE_CHECKING:
    from ademvl.data.collate import Batch


def task_of(run: RunSettings, tokenizer: Tokenizer, questions: Questions) -> EvaluationTask:
    """Return what is asked of a run, and how it answers.

    Args:
        questions: of any task, not of the run's alone.

    Raises:
        SettingsError: one token of the tokenizer is no letter, where its likelihood is asked for.
        DataError: an image is missing, or a text that the prompts show.
    """
    by_letter = questions.facts.answer == "letter"
    return EvaluationTask(
        name=questions.facts.evaluated_as,
        examples=questions.examples(run),
        max_new_tokens=1 if by_letter else run.evaluation.max_new_tokens,
        predict=(_by_letter if by_letter else _by_text)(run, tokenizer, questions),
        asked=ask(questions, run),
    )


def _by_letter(run: RunSettings, tokenizer: Tokenizer, questions: Questions) -> Predict:
    num_choices, answer_by = questions.num_choices, run.evaluation.answer_by
    if answer_by == "likelihood":
        letter_ids(tokenizer, max(num_choices.values(), default=0))

    def predict(model: Any, batch: "Batch", visual: Any) -> Sequence[Row]:
        return answer_batch(model, tokenizer, batch, visual, num_choices, answer_by=answer_by)

    return predict


def _by_text(run: RunSettings, tokenizer: Tokenizer, questions: Questions) -> Predict:
    def predict(model: Any, batch: "Batch", visual: Any) -> Sequence[Row]:
        from ademvl.evaluation.generation import generate_texts

        texts = generate_texts(model, batch, visual, run, tokenizer)
        return list(map(questions.row, batch.item_ids, texts))

    return predict
