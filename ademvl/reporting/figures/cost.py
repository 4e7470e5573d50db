"""Cost against accuracy: time, memory and energy of training, one point a run."""

from collections.abc import Callable
from statistics import mean
from typing import TYPE_CHECKING

from ademvl.reporting.figures.accuracy import main_runs
from ademvl.reporting.figures.plotting import (
    INTERVAL,
    draw_points,
    legend_below,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import Cost
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.judging import estimate_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Price = Callable[[Cost], float | None]
_PANELS: tuple[tuple[str, Price], ...] = (
    ("training time (min)", lambda cost: _scaled(cost.train_seconds, 1 / 60)),
    ("peak memory (GiB)", lambda cost: _scaled(cost.peak_memory_mib, 1 / 1024)),
    ("energy of GPUs (kJ)", lambda cost: _scaled(cost.energy_joules, 1 / 1000)),
)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def draw_cost(results: StudyResults) -> "Figure":
    """Draw accuracy on ScienceQA against what training took, mean over seeds."""
    runs = [run for run in results.of_task("scienceqa") if run.estimate(_average())]
    chosen = main_runs(results, runs)
    figure = new_figure(9.4, 3.9)
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    for axis, (title, price) in zip(axes, _PANELS, strict=True):
        axis.set_xlabel(title)
        drawn = [_draw(axis, run, price, index) for index, run in enumerate(chosen)]
        rest = [run for run in runs if run not in chosen]
        others = [
            _draw(axis, run, price, label=None if place else "other runs")
            for place, run in enumerate(rest)
        ]
        if any(drawn) or any(others):
            axis.set_xlim(left=0)
            axis.locator_params(axis="x", nbins=5)
        else:
            text = "not run" if not runs else "not measured here"
            axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", color="#555555")
            axis.set_xticks([])
    if not runs:
        say(axes[0], "")
    axes[0].set_ylabel(f"accuracy (%), {INTERVAL}")
    figure.suptitle(
        f"Accuracy against the cost of training, study {plain(results.study.name)} "
        f"({results.study.scale} scale)",
        fontsize=10,
        fontweight="bold",
    )
    legend_below(figure, axes[0])
    return figure


def _average() -> str:
    return SCIENCEQA_COLUMNS[-1].header


def _draw(
    axis: "Axes",
    run: RunResult,
    price: Price,
    index: int | None = None,
    *,
    label: str | None = None,
) -> bool:
    """Draw one run, under its own name where it has an index."""
    estimate = run.estimate(_average())
    prices = [found for seed in run.finished if (found := price(seed.cost)) is not None]
    if estimate is None or not prices:
        return False
    label = label if index is None else plain(run.label)
    return draw_points(axis, [(mean(prices), estimate_cell(estimate))], index, label=label)
