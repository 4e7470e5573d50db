"""Cost against accuracy: time, memory and energy of training, one point a run."""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import TYPE_CHECKING

from ademvl.reporting.figures.parameters import main_runs
from ademvl.reporting.figures.plotting import (
    MARK_SIZE,
    Drawing,
    draw_points,
    interval_text,
    items_only_text,
    legend_below,
    mark_sizes,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.seed_result import Cost
from ademvl.reporting.tables.columns import SCIENCEQA, SCIENCEQA_COLUMNS
from ademvl.reporting.tables.judging import estimate_cell
from ademvl.reporting.tables.layout import EMPTY, Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Price = Callable[[Cost], float | None]
_PANELS: tuple[tuple[str, Price], ...] = (
    ("training time (min)", lambda cost: _scaled(cost.train_seconds, 1 / 60)),
    ("peak memory (GiB)", lambda cost: _scaled(cost.peak_memory_mib, 1 / 1024)),
    ("energy of GPUs (kJ)", lambda cost: _scaled(cost.energy_joules, 1 / 1000)),
)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def draw_cost(results: StudyResults) -> Drawing:
    """Draw accuracy on ScienceQA against what training took, mean over seeds.

    What no run's training has measured, such as energy without a GPU, has no panel.
    """
    study = results.study
    runs = [run for run in results.of_task(SCIENCEQA) if run.estimate(_average())]
    panels = [(title, price) for title, price in _PANELS if any(_price(r, price) for r in runs)]
    figure = new_figure(9.4, 4.2)
    axes = figure.subplots(1, max(len(panels), 1), sharey=True, squeeze=False)[0]
    chosen = main_runs(results, runs)
    rest = [run for run in runs if run not in chosen]
    for axis, (title, price) in zip(axes, panels, strict=False):
        sizes = mark_sizes(
            [(_price(r, price) or 0.0, _average_cell(r).value or 0.0) for r in chosen]
        )
        for index, (run, size) in enumerate(zip(chosen, sizes, strict=True)):
            _draw(axis, run, price, index, label=plain(run.label), size=size)
        for place, run in enumerate(rest):
            _draw(axis, run, price, label=None if place else "other runs")
        axis.set_xlabel(title)
        axis.margins(0.08)
        axis.set_xlim(left=0)
        axis.locator_params(axis="x", nbins=5)
    cells = [_average_cell(run) for run in runs]
    if panels:
        axes[0].set_ylabel(f"accuracy (%), {interval_text(cells)}")
    else:
        say(axes[0], "not measured here" if runs else "not run")
    figure.suptitle(
        f"Accuracy against the cost of training, study {plain(study.name)} ({study.scale} scale)",
        fontsize=10,
        fontweight="bold",
    )
    legend_below(figure, axes[0])
    shown = _names([title for title, _ in panels])
    missing = _names([title for title, _ in _PANELS if title not in dict(panels)])
    told = f" Not measured here: {missing}." if runs and missing else ""
    return Drawing(
        figure,
        f"Accuracy on all questions against what training took, mean over seeds: "
        f"{shown or 'not run'}.{told}{items_only_text(cells)}",
    )


def _average() -> str:
    return SCIENCEQA_COLUMNS[-1].header


def _average_cell(run: RunResult) -> Cell:
    estimate = run.estimate(_average())
    return estimate_cell(estimate) if estimate else EMPTY


def _names(titles: Sequence[str]) -> str:
    return ", ".join(title.partition(" (")[0] for title in titles)


def _price(run: RunResult, price: Price) -> float | None:
    """Return the mean over seeds of what a run's trainings took; None where nothing tells."""
    prices = [found for seed in run.finished if (found := price(seed.cost)) is not None]
    return mean(prices) if prices else None


def _draw(
    axis: "Axes",
    run: RunResult,
    price: Price,
    index: int | None = None,
    *,
    label: str | None = None,
    size: float = MARK_SIZE,
) -> None:
    paid = _price(run, price)
    if paid is not None:
        draw_points(axis, [(paid, _average_cell(run))], index, label=label, size=size)
