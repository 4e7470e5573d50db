"""Figures of a study: learning curves, and accuracy by category with intervals; PNG and SVG.

The same scores and metrics give the same bytes: no date, no random identifiers. Colours are those
of Okabe and Ito, told apart with any colour vision; line style and marker repeat what they say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.study import Study
from ademvl.files import atomic_path
from ademvl.reporting.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.layout import Column, printable
from ademvl.reporting.results import RunResult, StudyResults, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FIGURES = ("learning_curves", "accuracy_by_category")
_TASK_TITLES = {"scienceqa": "ScienceQA", "coco_caption": "Captions", "instruction": "Instructions"}
_DPI = 160
_STYLE = {
    "svg.hashsalt": "ademvl",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def write_figures(study: Study, output_dir: Path) -> None:
    """Draw all figures from whatever has been run; a figure without data says so.

    Raises:
        DataError: a score or metrics file is malformed.
    """
    results = read_results(study)
    drawers: Mapping[str, Callable[[StudyResults], Figure]] = {
        "learning_curves": draw_learning_curves,
        "accuracy_by_category": draw_accuracy,
    }
    with plotting():
        for name in FIGURES:
            save_figure(drawers[name](results), output_dir / name)


@contextmanager
def plotting() -> Iterator[None]:
    """Apply the project's look; nothing of it stays behind."""
    import matplotlib

    with matplotlib.rc_context(dict(_STYLE)):  # type: ignore[arg-type]  # names are checked there
        yield


def save_figure(figure: "Figure", stem: Path, *, suffixes: Sequence[str] = ("png", "svg")) -> None:
    """Write a figure beside `stem` in each format, atomically and without a date."""
    for suffix in suffixes:
        metadata = {"Software": None} if suffix == "png" else {"Date": None}
        with atomic_path(stem.with_name(f"{stem.name}.{suffix}")) as path:
            figure.savefig(path, format=suffix, dpi=_DPI, metadata=metadata)


def new_figure(width: float, height: float) -> "Figure":
    """Create a figure that no window system and no global state knows of; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_learning_curves(results: StudyResults) -> "Figure":
    """Draw the loss by optimiser step: a panel a task, a colour a run, a thin line a seed."""
    from matplotlib.ticker import NullFormatter

    tasks = [task for task in _TASK_TITLES if results.of_task(task)]
    figure = new_figure(4.4 * max(len(tasks), 1), 4.0)
    axes = figure.subplots(1, len(tasks), squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=True):
        has_curve = [
            _draw_curves(axis, run, index) for index, run in enumerate(results.of_task(task))
        ]
        axis.set_title(f"{_TASK_TITLES[task]}: training loss")
        axis.set_xlabel("optimiser step")
        axis.set_ylabel("loss (log scale)")
        if any(has_curve):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            low, high = axis.get_ylim()
            axis.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
            axis.set_xlim(left=0)
            _legend_below(axis, num_columns=1)
        else:
            _say_not_run(axis)
    return figure


def _draw_curves(axis: "Axes", run: RunResult, index: int) -> bool:
    curves = [
        {row.step: row.loss for row in seed.learning_curve()}
        for seed in run.seeds
        if seed.state != "stale"
    ]
    curves = [curve for curve in curves if curve]
    if not curves:
        return False
    color = COLORS[index % len(COLORS)]
    if len(curves) > 1:
        for curve in curves:
            axis.plot(list(curve), list(curve.values()), color=color, linewidth=0.6, alpha=0.6)
    steps = [step for step in curves[0] if all(step in curve for curve in curves)]
    mean = [sum(curve[step] for curve in curves) / len(curves) for step in steps]
    seeds = f" (mean of {len(curves)} seeds)" if len(curves) > 1 else ""
    style = ("-", "--", "-.", ":")[index % 4]
    label = f"{_plain(run.label)}{seeds}"
    axis.plot(steps, mean, color=color, linewidth=1.6, linestyle=style, label=label)
    return True


def draw_accuracy(results: StudyResults) -> "Figure":
    """Draw each run's accuracy in every category, with 95 % intervals."""
    runs = [run for run in results.of_task("scienceqa") if run.finished]
    columns = [
        column
        for column in SCIENCEQA_COLUMNS
        if any(run.estimate(column.header) is not None for run in runs)
    ]
    figure = new_figure(8.8, 4.0)
    axis = figure.subplots()
    axis.set_title(f"Accuracy by category, study {_plain(results.study.name)}")
    axis.set_ylabel("accuracy (%), 95 % interval")
    if not columns:
        _say_not_run(axis)
        return figure
    for index, run in enumerate(runs):
        _draw_dots(axis, run, columns, index, num_runs=len(runs))
    axis.set_xticks(range(len(columns)), [_tick(runs, column) for column in columns])
    axis.tick_params(axis="x", length=0)
    axis.grid(visible=False, axis="x")
    for place in range(len(columns) - 1):
        axis.axvline(place + 0.5, color="#dddddd", linewidth=0.6, zorder=0)
    axis.set_xlim(-0.5, len(columns) - 0.5)
    axis.set_ylim(0, 102)
    _legend_below(axis, num_columns=min(len(runs), 4))
    return figure


def _draw_dots(
    axis: "Axes", run: RunResult, columns: Sequence[Column], index: int, *, num_runs: int
) -> None:
    places, values, below, above = [], [], [], []
    for place, column in enumerate(columns):
        estimate = run.estimate(column.header)
        if estimate is None:
            continue
        places.append(place + 0.7 * ((index + 0.5) / num_runs - 0.5))
        values.append(100 * estimate.value)
        below.append(100 * max(estimate.value - estimate.ci_low, 0))
        above.append(100 * max(estimate.ci_high - estimate.value, 0))
    axis.errorbar(
        places,
        values,
        yerr=[below, above],
        fmt=MARKERS[index % len(MARKERS)],
        color=COLORS[index % len(COLORS)],
        markersize=5,
        capsize=2.5,
        elinewidth=1.2,
        label=_plain(run.label),
    )


def _tick(runs: Sequence[RunResult], column: Column) -> str:
    found = {estimate.n for run in runs if (estimate := run.estimate(column.header))}
    return f"{column.header}\nn = {found.pop()}" if len(found) == 1 else column.header


def _legend_below(axis: "Axes", *, num_columns: int) -> None:
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=num_columns, fontsize=8)


def _say_not_run(axis: "Axes") -> None:
    axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", va="center")
    axis.set_xticks([])
    axis.set_yticks([])


def _plain(text: str) -> str:
    """Keep a dollar sign from starting mathematics."""
    return printable(text).replace("$", r"\$")
