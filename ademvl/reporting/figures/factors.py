"""One factor at a time: sensitivity to alpha, beta and gamma, and what each quirk is worth."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ademvl.config.factors import OneFactorRun, one_factor_runs
from ademvl.config.tasks import all_facts, facts_of
from ademvl.reporting.effects import (
    SENSITIVITY_PATHS,
    Effect,
    measure_effects,
    quirk_factors,
)
from ademvl.reporting.figures.plotting import (
    COLORS,
    GREY,
    INK,
    Bar,
    Drawing,
    draw_interval,
    draw_points,
    interval_text,
    items_only_text,
    legend_below,
    new_figure,
    plain,
    say,
)
from ademvl.reporting.results import RunResult, StudyResults
from ademvl.reporting.tables.columns import SCIENCEQA_COLUMNS
from ademvl.reporting.tables.judging import difference_cell, estimate_cell
from ademvl.reporting.tables.layout import Cell
from ademvl.statistics.effect_verdict import judge_effect

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AVERAGE = SCIENCEQA_COLUMNS[-1].header
_LABEL_WIDTH = 42


def draw_sensitivity(results: StudyResults) -> Drawing:
    """Draw accuracy against alpha, beta and gamma, one of them varied from a base run at a time."""
    figure = new_figure(9.4, 3.6)
    axes = figure.subplots(1, len(SENSITIVITY_PATHS), sharey=True)
    factors = [f for f in one_factor_runs(results.study) if f.path in SENSITIVITY_PATHS]
    by_name = {run.name: run for run in results.runs}
    for axis, path in zip(axes, SENSITIVITY_PATHS, strict=True):
        name = path.rpartition(".")[2]
        axis.set_title(name)
        axis.set_xlabel(f"{name} (log scale)" if name != "gamma" else f"{name} (fraction dropped)")
        mine = [factor for factor in factors if factor.path == path]
        drawn = [
            _draw_line(axis, mine, base, index, by_name)
            for index, base in enumerate(dict.fromkeys(factor.base for factor in mine))
        ]
        if not any(drawn):
            axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", color="#555555")
        elif name != "gamma":
            _logarithmic(axis, mine)
    names = {name for factor in factors for name in (factor.run, factor.base)}
    estimates = [by_name[name].estimate(_AVERAGE) for name in sorted(names)]
    cells = [estimate_cell(estimate) for estimate in estimates if estimate]
    axes[0].set_ylabel(f"accuracy (%), {interval_text(cells)}")
    figure.suptitle(
        f"Sensitivity of the accuracy, study {plain(results.study.name)} "
        f"({results.study.scale} scale)",
        fontsize=10,
        fontweight="bold",
    )
    legend_below(figure, axes[0])
    return Drawing(
        figure,
        "Accuracy on all questions where one of alpha, beta and gamma is varied from a base run "
        f"(the paper's figure 2){'; the base run is circled' if cells else ''}."
        f"{items_only_text(cells)}",
    )


def _draw_line(
    axis: "Axes",
    factors: Sequence[OneFactorRun],
    base: str,
    index: int,
    by_name: dict[str, RunResult],
) -> bool:
    """Draw a base run and the runs that vary it, by the varied value; the base stands out."""
    mine = [factor for factor in factors if factor.base == base]
    values = {float(factor.value): by_name[factor.run] for factor in mine}
    values[float(mine[0].base_value)] = by_name[base]
    points = [
        (value, estimate_cell(estimate), run.name == base)
        for value, run in sorted(values.items())
        if (estimate := run.estimate(_AVERAGE))
    ]
    if len(points) < 2:
        return False
    draw_points(
        axis,
        [(value, cell) for value, cell, _ in points],
        index,
        label=f"varied from {plain(by_name[base].label)}",
        is_joined=True,
    )
    for value, cell, is_base in points:
        if is_base and cell.value is not None:
            label = "the base run itself" if index == 0 else None
            axis.plot(
                [value],
                [cell.value],
                "o",
                markersize=11,
                markerfacecolor="none",
                markeredgecolor=INK,
                label=label,
            )
    return True


def _logarithmic(axis: "Axes", factors: Sequence[OneFactorRun]) -> None:
    values = {float(value) for factor in factors for value in (factor.value, factor.base_value)}
    if min(values) > 0:
        axis.set_xscale("log")
        axis.set_xticks(sorted(values), [f"{value:g}" for value in sorted(values)])
        axis.minorticks_off()


def draw_quirks(results: StudyResults) -> Drawing:
    """Draw the effect of each one-factor run on its task's main score, with 95 % intervals."""
    effects = measure_effects(results, quirk_factors(results))
    by_task = {task: [e for e in effects if e.task == task] for task in all_facts()}
    tasks = [task for task, found in by_task.items() if found]
    heights = [_num_lines(by_task[task]) for task in tasks]
    study = results.study
    figure = new_figure(9.0, 1.5 + 0.36 * sum(heights))
    if not tasks:
        say(figure.subplots(), "no run differs from a base run in one setting")
        return Drawing(figure, "What one setting is worth: no run differs from a base run in one.")
    axes = figure.subplots(len(tasks), 1, squeeze=False, height_ratios=heights)[:, 0]
    cells = [_effect_cell(effect) for effect in effects]
    for axis, task in zip(axes, tasks, strict=True):
        _draw_effects(axis, by_task[task])
        axis.set_title(f"{facts_of(task).main_title}: change by one setting", loc="left")
        axis.set_xlabel(
            f"points of {facts_of(task).main}, run minus its base run, "
            f"paired {interval_text(cells)}"
        )
    figure.suptitle(
        f"What one setting is worth, study {plain(study.name)} ({study.scale} scale)",
        fontsize=10,
        fontweight="bold",
    )
    return Drawing(figure, f"{_quirks_caption(effects)}{items_only_text(cells)}")


def _quirks_caption(effects: Sequence[Effect]) -> str:
    """Say what the marks mean that are there."""
    known = [effect for effect in effects if effect.difference is not None]
    text = "What one setting is worth: a run minus the base run that differs in it alone, on the "
    text += "same items."
    if known:
        text += " Lines are paired 95 % intervals."
    if any(len(effect.seed_differences) > 1 for effect in known):
        text += " Strokes are seeds."
    if any(_is_seen(effect) for effect in known):
        text += " Triangles: the effect is seen, as its interval over seeds and items leaves out 0."
    return text


def _is_seen(effect: Effect) -> bool:
    found = effect.difference
    return found is not None and judge_effect(found).outcome == "seen"


def _effect_cell(effect: Effect) -> Cell:
    return difference_cell(effect.difference) if effect.difference else Cell()


def _num_lines(effects: Sequence[Effect]) -> int:
    return len(effects) + len({effect.base.name for effect in effects})


def _draw_effects(axis: "Axes", effects: Sequence[Effect]) -> None:
    place = 0
    labels: list[tuple[float, str, bool]] = []
    for base in dict.fromkeys(effect.base.name for effect in effects):
        mine = [effect for effect in effects if effect.base.name == base]
        labels.append((place, _base_label(mine[0]), True))
        place += 1
        for effect in mine:
            labels.append((place, _effect_label(effect), False))
            _draw_effect(axis, effect, place)
            place += 1
    axis.axvline(0, color=INK, linewidth=0.8, zorder=1)
    axis.set_yticks([at for at, _, _ in labels], [text for _, text, _ in labels], fontsize=7.5)
    for tick, (_, _, is_base) in zip(axis.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if is_base else "normal")
    axis.set_ylim(place - 0.5, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")


def _base_label(effect: Effect) -> str:
    main = facts_of(effect.task).main
    estimate = effect.base.estimate(main)
    score = f" ({main} {100 * estimate.value:.1f})" if estimate else ""
    return "\n".join(textwrap.wrap(f"against {plain(effect.base.label)}{score}", _LABEL_WIDTH))


def _effect_label(effect: Effect) -> str:
    setting = effect.factor.label.rpartition(".")[2].replace("->", "→")
    return f"{textwrap.shorten(plain(effect.run.label), 56, placeholder='…')}\n{plain(setting)}"


def _draw_effect(axis: "Axes", effect: Effect, place: float) -> None:
    found = effect.difference
    if found is None:
        axis.annotate(
            plain(effect.state), (0, place), (4, 0), textcoords="offset points",
            fontsize=7, va="center", color="#555555",
        )  # fmt: skip
        return
    cell, is_clear = _effect_cell(effect), _is_seen(effect)
    is_higher = found.value > 0
    color = GREY if not is_clear else COLORS[0] if is_higher else COLORS[1]
    marker = "o" if not is_clear else "^" if is_higher else "v"
    axis.plot([cell.value or 0.0], [place], marker, color=color, markersize=5, zorder=2)
    draw_interval(axis, place, cell, Bar(color), is_across=True)
    if len(effect.seed_differences) > 1:
        by_seed = [100 * difference for difference in effect.seed_differences]
        axis.plot(by_seed, [place] * len(by_seed), "|", color=INK, markersize=7, zorder=3)
