"""Print the tables of docs/statistics.md: error rates and power of the verdict rule, and coverage.

python benchmarks/verdict_error_rates.py            # a few minutes on one core
python benchmarks/verdict_error_rates.py --trials 200
"""

import argparse

import numpy as np
from scipy.stats import t

from ademvl.statistics.simulation import SimulatedStudy, simulate_verdicts

SPREADS = (0.0035, 0.01)
SEEDS = (1, 2, 3, 5, 10)
SHIFT = 0.02


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    columns = ("reported number", "SD of seeds (points)", "seeds")
    columns += ("reproduced", "cannot tell", "below or above")
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    cases = [("one more training", "training", 0.0), ("the true mean", "mean", 0.0)]
    cases += [(f"one more training, {100 * SHIFT:g} points higher", "training", SHIFT)]
    for label, reported, shift in cases:
        for spread in SPREADS:
            for num_seeds in SEEDS:
                study = SimulatedStudy(
                    num_seeds=num_seeds, seed_spread=spread, reported=reported, shift=shift
                )
                rates = simulate_verdicts(study, num_trials=trials, seed=0)
                wrong = rates.get("below", 0.0) + rates.get("above", 0.0)
                shares = (rates.get("reproduced", 0.0), rates.get("cannot tell", 0.0), wrong)
                shown = " | ".join(f"{100 * share:.1f} %" for share in shares)
                print(f"| {label} | {100 * spread:g} | {num_seeds} | {shown} |", flush=True)
    print()
    print("| seeds of each run | Student's t covers | percentile bootstrap of seeds covers |")
    print("|---|---|---|")
    for num_seeds in SEEDS[1:]:
        by_t, by_bootstrap = seed_coverage(num_seeds, trials=10 * trials)
        print(f"| {num_seeds} | {100 * by_t:.1f} % | {100 * by_bootstrap:.1f} % |")


def seed_coverage(num_seeds: int, *, trials: int) -> tuple[float, float]:
    """Return how often 95 % intervals of the difference of two runs' means hold the true one."""
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(2, trials, num_seeds))
    difference = scores[0].mean(axis=1) - scores[1].mean(axis=1)
    variances = scores.var(axis=2, ddof=1) / num_seeds  # (2, trials)
    degrees = variances.sum(axis=0) ** 2 / (variances**2 / (num_seeds - 1)).sum(axis=0)
    half_width = t.ppf(0.975, degrees) * np.sqrt(variances.sum(axis=0))
    covered = 0
    for first, second in zip(*scores, strict=True):
        drawn = generator.integers(num_seeds, size=(2, 400, num_seeds))
        resampled = first[drawn[0]].mean(axis=1) - second[drawn[1]].mean(axis=1)
        low, high = np.quantile(resampled, [0.025, 0.975])
        covered += low <= 0 <= high
    return float(np.mean(np.abs(difference) <= half_width)), covered / trials


if __name__ == "__main__":
    main()
