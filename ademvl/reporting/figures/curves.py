"""Learning curves: the loss by optimiser step, in one panel a task, or in one a run for many."""

import math
from typing import TYPE_CHECKING

from ademvl.config.run import TRAINED
from ademvl.config.tasks import all_facts, facts_of
from ademvl.reporting.figures.plotting import (
    COLORS,
    GREY,
    LINES,
    MAX_LINES,
    Drawing,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.results import RunResult, StudyResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = dict[int, float]
_PANELS_A_ROW = 5


def draw_learning_curves(results: StudyResults) -> Drawing:
    """Draw the loss by optimiser step: a panel a task, a colour a run, a thin line a seed.

    With more runs than colours tell apart, each run has a small panel, with the first one in grey.
    """
    trained = [run for run in results.runs if not _takes_adapter(run)]
    by_task = {task: [run for run in trained if run.settings.task == task] for task in all_facts()}
    tasks = [task for task, runs in by_task.items() if runs]
    if max(map(len, by_task.values())) > MAX_LINES:
        return Drawing(
            _draw_small(trained, _about(results)),
            "Training loss by optimiser step, a panel a run. A thin line is a seed, a thick one "
            "the mean over seeds; dashed grey: the first run of the same task, for comparison.",
        )
    figure = new_figure(4.4 * max(len(tasks), 1), 4.0)
    axes = figure.subplots(1, max(len(tasks), 1), squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=False):
        has_curve = [_draw_run(axis, run, index) for index, run in enumerate(by_task[task])]
        axis.set_title(facts_of(task).title)
        axis.set_xlabel("optimiser step")
        axis.set_ylabel("loss (log scale)")
        if any(has_curve):
            scale_losses(axis)
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1, fontsize=8)
        else:
            say(axis, "not run")
    if not tasks:
        say(axes[0], "not run")
    figure.suptitle(f"Training loss, {_about(results)}", fontsize=10, fontweight="bold")
    has_several = any(len(run.seeds) > 1 for run in trained)
    lines = " A thin line is a seed, a thick one the mean over seeds." if has_several else ""
    return Drawing(figure, f"Training loss by optimiser step, a colour a run.{lines}")


def _about(results: StudyResults) -> str:
    return f"study {plain(results.study.name)} ({results.study.scale} scale)"


def _takes_adapter(run: RunResult) -> bool:
    """Tell whether the run evaluates an adapter that it did not train, and has no curve."""
    return run.settings.adapter != TRAINED


def curves_of(run: RunResult) -> list[Curve]:
    """Return loss by step for each seed that is not stale; steps without a finite loss are left."""
    found = [
        {row.step: row.loss for row in seed.learning_curve() if math.isfinite(row.loss)}
        for seed in run.seeds
        if seed.state != "stale"
    ]
    return [curve for curve in found if curve]


def _mean(curves: list[Curve]) -> Curve:
    steps = [step for step in curves[0] if all(step in curve for curve in curves)]
    return {step: sum(curve[step] for curve in curves) / len(curves) for step in steps}


def _draw_run(axis: "Axes", run: RunResult, index: int) -> bool:
    curves = curves_of(run)
    if not curves:
        return False
    color = COLORS[index % len(COLORS)]
    if len(curves) > 1:
        for curve in curves:
            axis.plot(list(curve), list(curve.values()), color=color, linewidth=0.6, alpha=0.6)
    mean = _mean(curves)
    seeds = f" (mean of {len(curves)} seeds)" if len(curves) > 1 else ""
    axis.plot(
        list(mean),
        list(mean.values()),
        color=color,
        linewidth=1.6,
        linestyle=LINES[index % len(LINES)],
        label=f"{plain(run.label)}{seeds}",
    )
    return True


def scale_losses(axis: "Axes") -> None:
    """Make an axis logarithmic, with as many labelled ticks as tell its scale."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if 10 * low <= high < 100 * low:  # tens alone would be one tick or two
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else NullFormatter())
    axis.set_xlim(left=0)


def _draw_small(runs: list[RunResult], about: str) -> "Figure":
    num_rows = math.ceil(len(runs) / _PANELS_A_ROW)
    height = 1.5 * num_rows + 0.9
    figure = new_figure(1.95 * _PANELS_A_ROW, height)
    figure.set_layout_engine("none")  # so many panels would take the layout engine long
    axes = figure.subplots(
        num_rows,
        _PANELS_A_ROW,
        sharex=True,
        sharey=True,
        squeeze=False,
        gridspec_kw={
            "left": 0.05,
            "right": 0.99,
            "top": 1 - 0.75 / height,
            "bottom": 0.55 / height,
            "hspace": 0.5,
            "wspace": 0.1,
        },
    ).flatten()
    for axis in axes[len(runs) :]:
        axis.set_axis_off()
    for axis in axes[max(0, len(runs) - _PANELS_A_ROW) : len(runs)]:
        axis.tick_params(labelbottom=True)  # the last one of each column
    first = {task: next((r for r in runs if r.settings.task == task), None) for task in all_facts()}
    means = {task: _mean(found) for task, run in first.items() if run and (found := curves_of(run))}
    for axis, run in zip(axes, runs, strict=False):
        _draw_panel(axis, run, means.get(run.settings.task, {}))
    if means:
        _scale_panels(axes[0])
    else:
        axes[0].set(xticks=[], yticks=[])
    title = f"Training loss (log scale) by optimiser step, {about}"
    figure.suptitle(title, fontsize=10, fontweight="bold")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, fontsize=8)
    return figure


def _scale_panels(axis: "Axes") -> None:
    """Give the panels a few ticks, which many panels with a locator each would take long for."""
    from matplotlib.ticker import NullLocator

    axis.set_yscale("log")
    axis.set_xlim(left=0)
    low, high = (math.log10(end) for end in axis.get_ylim())
    ticks = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    if len(ticks) < 2:
        ticks = [10**low, 10 ** ((low + high) / 2), 10**high]
    axis.set_yticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_xticks(axis.get_xticks()[::2])
    axis.set_xlim(left=0)


def _draw_panel(axis: "Axes", run: RunResult, reference: Curve) -> None:
    axis.set_title(_wrapped(run.label), fontsize=7, loc="left", pad=3, fontweight="normal")
    axis.tick_params(labelsize=7)
    curves = curves_of(run)
    for curve in curves:
        axis.plot(list(curve), list(curve.values()), color=COLORS[0], linewidth=0.6, alpha=0.7)
    mean = _mean(curves) if curves else {}
    axis.plot(list(mean), list(mean.values()), color=COLORS[0], linewidth=1.4, label="run")
    axis.plot(
        list(reference),
        list(reference.values()),
        color=GREY,
        linewidth=0.9,
        linestyle="--",
        label="first run of the task",
        zorder=1,
    )
    if not curves:
        axis.grid(visible=False)
        axis.text(0.97, 0.85, "not run", transform=axis.transAxes, ha="right", fontsize=8)


def _wrapped(label: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(plain(label), 30)[:2])
