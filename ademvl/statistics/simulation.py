"""Simulated reproductions: how often the verdict rule is wrong, and how often it sees a difference.

Questions differ in difficulty, seeds in how good they are, and every answer is a draw.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ademvl.statistics.intervals import Floats, wilson_interval
from ademvl.statistics.seed_spread import pool, spread_of
from ademvl.statistics.verdict import Outcome, verdict

# Beta(p c, (1 - p) c): most questions are answered nearly always or nearly never.
_CONCENTRATION = 2.0


@dataclass(frozen=True, kw_only=True)
class SimulatedStudy:
    """What is simulated.

    Attributes:
        num_seeds: trainings that are measured.
        other_rows: rows of the study beside the measured one, of as many seeds and as much spread.
        seed_spread: standard deviation of a training's true accuracy, a fraction.
        accuracy: mean true accuracy, a fraction.
        num_questions: asked.
        reported: `training`: the reported number is one more training's score on the same
            questions; `mean`: the mean true accuracy over all trainings and questions.
        shift: added to the reported number, a fraction; 0 is a true reproduction.
    """

    num_seeds: int
    other_rows: int = 3
    seed_spread: float = 0.0035
    accuracy: float = 0.94
    num_questions: int = 4241
    reported: Literal["training", "mean"] = "training"
    shift: float = 0.0


def simulate_verdicts(study: SimulatedStudy, *, num_trials: int, seed: int) -> dict[Outcome, float]:
    """Return how often each verdict is given; verdicts that never occur are absent."""
    generator = np.random.default_rng(seed)
    outcomes: Counter[Outcome] = Counter()
    for _ in range(num_trials):
        difficulty = generator.beta(
            study.accuracy * _CONCENTRATION,
            (1 - study.accuracy) * _CONCENTRATION,
            size=study.num_questions,
        )
        correct = _answers(study, difficulty, generator)
        rows = correct[:-1].reshape(1 + study.other_rows, study.num_seeds)
        estimates = [wilson_interval(int(count), study.num_questions) for count in rows[0]]
        others = pool(spread_of(row / study.num_questions) for row in rows[1:])
        reported = study.accuracy
        if study.reported == "training":
            reported = correct[-1] / study.num_questions
        found = verdict(estimates, float(reported) + study.shift, others=others)
        outcomes[found.outcome] += 1
    return {outcome: count / num_trials for outcome, count in outcomes.items()}


def _answers(study: SimulatedStudy, difficulty: Floats, generator: np.random.Generator) -> Floats:
    """Return the correct answers of all rows' seeds, the measured one's first, and of one more."""
    shape = ((1 + study.other_rows) * study.num_seeds + 1, 1)
    likely = np.clip(difficulty + generator.normal(0.0, study.seed_spread, size=shape), 0.0, 1.0)
    correct: Floats = (generator.random(likely.shape) < likely).sum(axis=1).astype(np.float64)
    return correct
