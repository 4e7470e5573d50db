"""Settings of how a trained run is scored."""

from typing import Literal

from ademvl.config.setting import group, setting, settings_class

Split = Literal["val", "test"]
AnswerBy = Literal["greedy", "likelihood", "letter"]


@settings_class
class DecodingSettings:
    """How tokens of a caption or a free answer are chosen; the reference is greedy.

    Attributes:
        strategy: `greedy` takes the most likely token, `beam` the most likely of `num_beams`
            continuations, `sample` draws with the run's seed and the item's id.
        num_beams: continuations that a beam search keeps.
        length_penalty: of a beam search: log-likelihoods are divided by length to this power.
        temperature: of sampling: logits are divided by it; small ones come close to greedy.
        top_p: of sampling: only the most likely tokens that together have this
            probability are drawn from.
    """

    strategy: Literal["greedy", "beam", "sample"] = setting(changes="evaluation", default="greedy")
    num_beams: int = setting(changes="evaluation", default=5, ge=1, le=1_000)
    length_penalty: float = setting(changes="evaluation", default=1.0)
    temperature: float = setting(changes="evaluation", default=1.0, gt=0)
    top_p: float = setting(changes="evaluation", default=1.0, gt=0, le=1)


@settings_class
class EvaluationSettings:
    """How a trained run is scored.

    Attributes:
        split: split of the data set; for captions the name of the Karpathy split; not used by task
            instruction, as MME has one only.
        batch_size: items of a forward pass at most; items of like length are asked together, and
            fewer of those that are long.
        answer_by: where a letter answers: `greedy` takes the choice that the most likely next token
            names, as the reference does; `likelihood` the choice whose letter is the most likely
            next token, so that every question gets an answer; `letter` accepts no more than a
            letter, where greedy finds T in "The".
        max_new_tokens: tokens of a generated caption or answer to MME; 20 in the reference.
        decoding: how tokens of a generated caption or answer to MME are chosen.
    """

    split: Split = setting(changes="evaluation", default="test")
    batch_size: int = setting(changes="speed", default=64, ge=1, le=1_000_000)
    answer_by: AnswerBy = setting(changes="evaluation", default="greedy")
    max_new_tokens: int = setting(changes="evaluation", default=20, ge=1, le=100_000)
    decoding: DecodingSettings = group(default_factory=DecodingSettings)
