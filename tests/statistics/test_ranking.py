"""Protects the ranking: it says no more than seeds and questions allow."""

import numpy as np
import pytest

from ademvl.statistics.paired_proportions import Correct
from ademvl.statistics.ranking import draw_scores, rank


def answers(*rates: float, num_seeds: int = 5, n: int = 400) -> list[Correct]:
    """Return runs whose seeds are right in a share of questions that differs by up to a point."""
    generator = np.random.default_rng(0)
    return [
        np.stack(
            [
                generator.permutation(np.arange(n) < round(n * rate) + seed % 5 - 2)
                for seed in range(num_seeds)
            ]
        )
        for rate in rates
    ]


def test_a_run_far_ahead_is_always_first() -> None:
    correct = answers(0.9, 0.5, 0.6)
    draws = draw_scores(correct, seed=0)
    assert draws is not None
    best, worst, middle = rank([0.9, 0.5, 0.6], draws)
    assert (best.first, best.place, best.low, best.high) == (1.0, 1, 1, 1)
    assert (middle.place, middle.low, middle.high) == (2, 2, 2)
    assert (worst.first, worst.place) == (0.0, 3)


def test_runs_of_equal_score_share_the_first_place() -> None:
    draws = draw_scores(answers(0.7, 0.7), seed=0)
    assert draws is not None
    ranks = rank([0.7, 0.7], draws)
    assert sum(each.first for each in ranks) == pytest.approx(1.0)
    assert ranks[0].first == pytest.approx(0.5, abs=0.2)
    assert [(each.place, each.low, each.high) for each in ranks] == [(1, 1, 2), (1, 1, 2)]


def test_draws_are_students_t_around_the_measured_means() -> None:
    # All seeds answer all questions alike but for one question each, so items hardly count.
    correct = [np.zeros((3, 1000), dtype=bool) for _ in range(4)]
    for run in correct:
        run[0, :100] = run[1, :120] = run[2, :140] = True
    draws = draw_scores(correct, seed=3)
    assert draws is not None
    # Pooled: variance 0.02^2 of a seed, so 0.02^2 / 3 of a mean, 8 degrees: times 8 / (8 - 2).
    of_items = 0.12 * 0.88 / 1000
    trained = draws[:, 0] - draws[:, 1]  # the same questions for both: these cancel out
    assert trained.var() == pytest.approx(2 * 0.02**2 / 3 * 8 / 6, rel=0.06)
    assert draws.mean() == pytest.approx(0.12, abs=1e-3)
    assert draws[:, 0].var() == pytest.approx(0.02**2 / 3 * 8 / 6 + 0.9 * of_items, rel=0.06)


def test_one_seed_each_has_no_ranking() -> None:
    assert draw_scores(answers(0.9, 0.5, 0.6, num_seeds=1), seed=0) is None


def test_too_few_degrees_of_freedom_have_no_ranking() -> None:
    assert draw_scores(answers(0.9, 0.5, num_seeds=2), seed=0) is None
    assert draw_scores(answers(0.9, 0.5, num_seeds=3), seed=0) is not None


def test_equal_draws_are_shared() -> None:
    draws = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    assert [each.first for each in rank([1.0, 1.0, 0.0], draws)] == [0.75, 0.25, 0.0]
