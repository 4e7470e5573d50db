"""Settings of how a trained run is scored."""

import math
from dataclasses import dataclass
from typing import Literal

from ademvl.config.ranges import check_ranges
from ademvl.errors import SettingsError

AnswerBy = Literal["greedy", "likelihood", "letter"]


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """How tokens of a caption or a free answer are chosen; the reference is greedy.

    Attributes:
        strategy: `greedy` takes the most likely token, `beam` the most likely of `num_beams`
            continuations, `sample` draws with the run's seed and the item's id.
        num_beams: continuations that a beam search keeps.
        length_penalty: of a beam search: log-likelihoods are divided by length to this power.
        temperature: of sampling, > 0: logits are divided by it.
        top_p: of sampling, 0 < top_p <= 1: only the most likely tokens that together have this
            probability are drawn from.
    """

    strategy: Literal["greedy", "beam", "sample"] = "greedy"
    num_beams: int = 5
    length_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check_ranges("evaluation.decoding", self, {">= 1": ("num_beams",)})
        if not 0 < self.temperature < math.inf:
            raise SettingsError(
                f"evaluation.decoding.temperature: {self.temperature}, expected > 0; "
                "strategy greedy is the limit of small ones"
            )
        if not 0 < self.top_p <= 1:
            raise SettingsError(f"evaluation.decoding.top_p: {self.top_p}, expected 0 < top_p <= 1")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How a trained run is scored.

    Attributes:
        split: split of the data set; for captions the name of the Karpathy split; not used by task
            instruction, as MME has one only.
        batch_size: items per forward pass; has no influence on results.
        answer_by: of ScienceQA: `greedy` takes the choice that the most likely next token names,
            as the reference does; `likelihood` the choice whose letter is the most likely next
            token, so that every question gets an answer; `letter` accepts no more than a letter,
            where greedy finds T in "The".
        max_new_tokens: tokens of a generated caption or answer to MME; 20 in the reference.
        decoding: how tokens of a generated caption or answer to MME are chosen.
    """

    split: Literal["val", "test"] = "test"
    batch_size: int = 64
    answer_by: AnswerBy = "greedy"
    max_new_tokens: int = 20
    decoding: DecodingSettings = DecodingSettings()

    def __post_init__(self) -> None:
        check_ranges("evaluation", self, {">= 1": ("batch_size", "max_new_tokens")})
