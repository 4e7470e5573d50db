"""ScienceQA: the answer from one forward pass, and accuracy in the nine published columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING

from ademvl.config.evaluation import AnswerBy
from ademvl.data.choices import NO_ANSWER, choice_lettered, choice_named
from ademvl.data.prompts import ANSWER_CUE
from ademvl.errors import DataError, SettingsError, list_findings
from ademvl.evaluation.finite import refuse_not_finite
from ademvl.statistics.intervals import Estimate, wilson_interval

if TYPE_CHECKING:
    from torch import Tensor

    from ademvl.data.collate import Batch
    from ademvl.data.scienceqa import Problem
    from ademvl.data.tokenizer import Tokenizer
    from ademvl.model.build import Scoring


def _grade(problem: "Problem") -> int:
    return int(problem.grade.removeprefix("grade"))


# The columns of the published tables, in their order. "Has text" means a hint; a question can
# have both text and image, and "no context" means neither.
COLUMNS: Mapping[str, Callable[["Problem"], bool]] = {
    "NAT": lambda problem: problem.subject == "natural science",
    "SOC": lambda problem: problem.subject == "social science",
    "LAN": lambda problem: problem.subject == "language science",
    "TXT": lambda problem: problem.has_text_context,
    "IMG": lambda problem: problem.has_image,
    "NO": lambda problem: not (problem.has_text_context or problem.has_image),
    "G1-6": lambda problem: 1 <= _grade(problem) <= 6,
    "G7-12": lambda problem: 7 <= _grade(problem) <= 12,
    "AVG": lambda problem: True,
}


@dataclass(frozen=True, kw_only=True)
class ColumnScore:
    """Accuracy on the questions of one column.

    Attributes:
        n: questions.
        correct: of them answered correctly.
        accuracy: correct / n with its Wilson interval; None without questions.
    """

    n: int
    correct: int
    accuracy: Estimate | None

    def to_json(self) -> dict[str, float | int | str] | None:
        """Render for a score file, in percent; null for a column without questions."""
        if self.accuracy is None:
            return None
        return {**self.accuracy.as_percent(), "correct": self.correct}


def letter_ids(tokenizer: "Tokenizer", num_choices: int) -> list[int]:
    """Return the token of each choice's letter as it follows "The answer is".

    Raises:
        SettingsError: the tokenizer splits a letter that is needed, so that one forward pass does
            not give its likelihood.
    """
    cue = tokenizer.encode(ANSWER_CUE)
    found = []
    for letter in ascii_uppercase[:num_choices]:
        ids = tokenizer.encode(f"{ANSWER_CUE} {letter}")
        if len(ids) != len(cue) + 1 or ids[:-1] != cue:
            raise SettingsError(
                f"evaluation.answer_by: likelihood needs one token for each letter, but the "
                f"tokenizer of backbones.llm splits {letter!r}; use greedy"
            )
        found.append(ids[-1])
    return found


def answer_batch(
    model: "Scoring",
    tokenizer: "Tokenizer",
    batch: "Batch",
    visual: "Tensor | None",
    num_choices: Mapping[str, int],
    *,
    answer_by: AnswerBy = "greedy",
) -> list[dict[str, object]]:
    """Answer a batch of questions by one forward pass.

    Args:
        model: with its adapter, in evaluation mode.
        tokenizer: of the language model.
        batch: prompts that end in the answer's cue; item ids are question ids.
        visual: see `VisualSource.for_batch`.
        num_choices: by question id.
        answer_by: `greedy`: the choice that the most likely token names; `letter`: the same, but
            the token must be nothing but the letter; `likelihood`: the choice whose letter is the
            most likely, of equals the first.

    Returns:
        One row a question: id, text of the most likely token, and the choice.

    Raises:
        SettingsError: see `letter_ids`.
        WeightsError: logits are not finite; lists the questions.
    """
    logits = answer_logits(model, batch, visual)
    return read_answers(tokenizer, batch.item_ids, logits, num_choices, answer_by=answer_by)


def answer_logits(model: "Scoring", batch: "Batch", visual: "Tensor | None") -> "Tensor":
    """Return the logits of the token that answers, (B, V). See `answer_batch`.

    Raises:
        WeightsError: logits are not finite; lists the questions.
    """
    logits = model.next_token_logits(batch, visual)
    refuse_not_finite(batch.item_ids, logits.isfinite().all(dim=-1), what="logits of the answer")
    return logits


def read_answers(
    tokenizer: "Tokenizer",
    question_ids: Sequence[str],
    logits: "Tensor",
    num_choices: Mapping[str, int],
    *,
    answer_by: AnswerBy,
) -> list[dict[str, object]]:
    """Return the rows of `answer_batch` from the logits of `answer_logits`, (B, V).

    Raises:
        SettingsError: see `letter_ids`.
    """
    texts = [tokenizer.decode([token_id]) for token_id in logits.argmax(dim=-1).tolist()]
    counts = [num_choices[question_id] for question_id in question_ids]
    if answer_by != "likelihood":
        read = choice_named if answer_by == "greedy" else choice_lettered
        named = zip(texts, counts, strict=True)
        indices = [read(text, num_choices=count) for text, count in named]
    else:
        letter_logits = logits[:, letter_ids(tokenizer, max(counts))].tolist()  # (B, letters)
        indices = [
            max(range(count), key=scores.__getitem__)
            for scores, count in zip(letter_logits, counts, strict=True)
        ]
    return [
        {"id": question_id, "text": text, "predicted_index": index}
        for question_id, text, index in zip(question_ids, texts, indices, strict=True)
    ]


def score_scienceqa(
    problems: Sequence["Problem"], predicted_index: Mapping[str, int]
) -> dict[str, ColumnScore]:
    """Score predictions in the nine published columns, in their published order.

    Args:
        problems: the questions asked.
        predicted_index: 0-based choice by question id, NO_ANSWER for none, which is wrong.

    Raises:
        DataError: a question without prediction, a prediction without question, or a choice that
            the question does not have.
    """
    _check(problems, predicted_index)
    correct = right_answers(problems, predicted_index)
    scores = {}
    for column, belongs in COLUMNS.items():
        asked = zip(problems, correct, strict=True)
        members = [is_right for problem, is_right in asked if belongs(problem)]
        accuracy = wilson_interval(sum(members), len(members)) if members else None
        scores[column] = ColumnScore(n=len(members), correct=sum(members), accuracy=accuracy)
    return scores


def right_answers(problems: Sequence["Problem"], predicted_index: Mapping[str, int]) -> list[bool]:
    """Return whether each question is answered right."""
    return [predicted_index[problem.question_id] == problem.answer_index for problem in problems]


def _check(problems: Sequence["Problem"], predicted_index: Mapping[str, int]) -> None:
    asked = {problem.question_id for problem in problems}
    findings = []
    for problem in problems:
        index = predicted_index.get(problem.question_id)
        if index is None:
            findings.append(f"question {problem.question_id}: no prediction")
        elif not NO_ANSWER <= index < len(problem.choices):
            findings.append(
                f"question {problem.question_id}: predicted choice {index}, "
                f"but it has choices 0 to {len(problem.choices) - 1} ({NO_ANSWER} for no answer)"
            )
    findings += [
        f"question {question_id}: a prediction, but it was not asked"
        for question_id in predicted_index
        if question_id not in asked
    ]
    if findings:
        remedy = "Predict exactly the questions of the split, one choice each."
        raise DataError(list_findings("predictions cannot be scored", findings, remedy))
