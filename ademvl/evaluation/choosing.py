"""The choice of a model among lettered answers, from one forward pass."""

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING

from ademvl.config.evaluation import AnswerBy
from ademvl.data.choices import ANSWER_CUE, choice_lettered, choice_named
from ademvl.errors import SettingsError
from ademvl.evaluation.finite import refuse_not_finite

if TYPE_CHECKING:
    from torch import Tensor

    from ademvl.data.collate import Batch
    from ademvl.data.tokenizer import Tokenizer
    from ademvl.model.build import Scoring


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
