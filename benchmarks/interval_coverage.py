"""Print how often the intervals of tables hold the mean over seeds, and how wide they are.

python benchmarks/interval_coverage.py > benchmarks/results/interval_coverage.txt   # about a minute
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from ademvl.statistics.intervals import combine_seeds, wilson_interval
from ademvl.statistics.seed_spread import MIN_DEGREES, pool, spread_of

Floats = NDArray[np.float64]
ACCURACY = 0.93
"""Mean over all trainings and questions; 3 points of scatter fit below 100 %."""
CONCENTRATION = 2.0
"""Questions' difficulties are Beta(p c, (1 - p) c): most are answered nearly always or never."""
QUESTIONS = (1125, 2017)
SPREADS = (0.0, 0.005, 0.01, 0.03)
STUDIES_AT_ONCE = 250
CHECKED = 10


@dataclass(frozen=True)
class Plan:
    """A row's seeds, those of each of the study's other rows, and how the others scatter."""

    seeds: int
    other_seeds: int
    other_rows: int = 3
    times_others: float = 1.0
    """How many times as much the row scatters as the others do."""

    @property
    def degrees(self) -> int:
        """Of freedom, own and others' together."""
        return self.seeds - 1 + self.other_rows * (self.other_seeds - 1)

    @property
    def label(self) -> str:
        """The plan in words."""
        beside = f"{self.other_rows} of {self.other_seeds}" if self.other_rows else "none"
        return f"{self.seeds} | {beside} | {self.degrees}"


PLANS = (
    *(Plan(seeds, seeds) for seeds in (1, 2, 3, 5, 8)),
    Plan(1, 3),
    *(Plan(seeds, seeds, other_rows=0) for seeds in (2, 3, 5, 8)),
)
UNEVEN = tuple(Plan(seeds, seeds, times_others=2.0) for seeds in (2, 3, 5, 8))


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=4000)
    studies = parser.parse_args().studies
    header = ["seeds", "other rows", "degrees", "SD of seeds"]
    for n in QUESTIONS:
        header += [f"covers, n = {n:,}", "seeds close", "width"]
    print(f"| {' | '.join(header)} |")
    print(f"|{'---|' * len(header)}")
    for plan in PLANS:
        for spread in SPREADS:
            print(_line(plan, spread, studies), flush=True)
    print("\nThe row scatters twice as much as the others do (SD of the row):\n")
    print(f"| {' | '.join(header)} |")
    print(f"|{'---|' * len(header)}")
    for plan in UNEVEN:
        for spread in SPREADS[1:]:
            print(_line(plan, spread, studies), flush=True)


def _line(plan: Plan, spread: float, studies: int) -> str:
    cells = [plan.label, f"{100 * spread:g}"]
    for n in QUESTIONS:
        found = simulate(plan, spread, n, studies=studies)
        mark = "" if plan.degrees >= MIN_DEGREES else "†"
        close = "–" if np.isnan(found.when_close) else f"{100 * found.when_close:.1f} %{mark}"
        cells += [f"{100 * found.coverage:.1f} %{mark}", close, f"{100 * found.width:.2f}"]
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Coverage:
    """How often intervals hold what they are about, also where a row's seeds came out close.

    Attributes:
        coverage: of the mean over seeds; of these trainings' own accuracy where items only.
        when_close: of the quarter of studies in which the row's seeds are closest; nan with one.
        width: mean, a fraction.
    """

    coverage: float
    when_close: float
    width: float


def simulate(plan: Plan, spread: float, n: int, *, studies: int, seed: int = 0) -> Coverage:
    """Simulate studies and the interval of one row's mean in each.

    Args:
        plan: seeds.
        spread: standard deviation of a training's accuracy between seeds, a fraction.
        n: questions.
        studies: how many.
        seed: of everything.
    """
    generator = np.random.default_rng([seed, n, plan.seeds, plan.other_seeds])
    covered, closeness, widths = [], [], []
    for start in range(0, studies, STUDIES_AT_ONCE):
        size = min(STUDIES_AT_ONCE, studies - start)
        truth, scores = _scores(plan, spread, n, size, generator)
        low, high = intervals(plan, scores, n)
        if start == 0:
            _check(plan, scores, n, low, high)
        about = np.full(size, ACCURACY)
        if plan.degrees < MIN_DEGREES:
            about = truth[:, : plan.seeds].mean(axis=1)
        covered.append((low <= about) & (about <= high))
        closeness.append(scores[:, : plan.seeds].std(axis=1))
        widths.append(high - low)
    found, spreads = np.concatenate(covered), np.concatenate(closeness)
    close = found[spreads <= np.quantile(spreads, 0.25)]
    return Coverage(
        float(found.mean()),
        float(close.mean()) if plan.seeds > 1 else float("nan"),
        float(np.concatenate(widths).mean()),
    )


def _scores(
    plan: Plan, spread: float, n: int, size: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return trainings' true and measured accuracies, (studies, trainings), the row's own first."""
    num_others = plan.other_rows * plan.other_seeds
    scatter = np.full(plan.seeds + num_others, spread)
    scatter[plan.seeds :] /= plan.times_others
    truth = ACCURACY + scatter * generator.normal(size=(size, len(scatter)))
    truth = np.minimum(truth, 1.0)
    difficulty = generator.beta(
        ACCURACY * CONCENTRATION, (1 - ACCURACY) * CONCENTRATION, size=(size, n)
    ).astype(np.float32)
    scores = np.empty_like(truth)
    for place in range(truth.shape[1]):
        # A better training turns the same share of wrong answers right, whatever the question.
        own = truth[:, place, None].astype(np.float32)
        worse = difficulty * (own / ACCURACY)
        better = 1 - (1 - difficulty) * ((1 - own) / (1 - ACCURACY))
        likely = np.where(own < ACCURACY, worse, better)
        drawn = generator.random(likely.shape, dtype=np.float32)
        scores[:, place] = (drawn < likely).mean(axis=1)
    return truth, scores


def intervals(plan: Plan, scores: Floats, n: int) -> tuple[Floats, Floats]:
    """Return `combine_seeds` of the first row of each study, for all studies at once.

    Args:
        plan: seeds.
        scores: (studies, trainings), the row's own first.
        n: questions.
    """
    own, others = scores[:, : plan.seeds], scores[:, plan.seeds :]
    low, high = (ends.mean(axis=1) for ends in _wilson(own, n))
    if plan.degrees < MIN_DEGREES:
        return low, high
    mean, variance = own.mean(axis=1), np.zeros(len(own))
    if plan.seeds > 1:
        variance = own.var(axis=1, ddof=1)
    if plan.other_rows and plan.other_seeds > 1:
        rows = others.reshape(len(own), plan.other_rows, plan.other_seeds)
        variance = np.maximum(variance, rows.var(axis=2, ddof=1).mean(axis=1))
    degrees = max(plan.seeds - 1, plan.other_rows * (plan.other_seeds - 1))
    ends = [
        _half_width(distance, variance / plan.seeds, degrees)
        for distance in (mean - low, high - mean)
    ]
    return np.maximum(0.0, mean - ends[0]), np.minimum(1.0, mean + ends[1])


def _wilson(share: Floats, n: int) -> Iterator[Floats]:
    z = norm.ppf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    yield middle - reach
    yield middle + reach


def _half_width(items: Floats, seeds: Floats, degrees: int) -> Floats:
    seeds = np.maximum(seeds, 1e-12)
    variance = (items / norm.ppf(0.975)) ** 2 + seeds
    found: Floats = t.ppf(0.975, degrees * (variance / seeds) ** 2) * np.sqrt(variance)
    return found


def _check(plan: Plan, scores: Floats, n: int, low: Floats, high: Floats) -> None:
    """Make sure that what is simulated is what tables print."""
    for study in range(CHECKED):
        own, others = scores[study, : plan.seeds], scores[study, plan.seeds :]
        rows = others.reshape(plan.other_rows, -1) if plan.other_rows else []
        estimates = [wilson_interval(round(n * value), n) for value in own]
        found = combine_seeds(estimates, pool(spread_of(row) for row in rows))
        assert np.allclose((found.ci_low, found.ci_high), (low[study], high[study]), atol=1e-6)


if __name__ == "__main__":
    main()
