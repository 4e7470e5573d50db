"""All figures of a study, PNG and SVG, from whatever has been run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.factors import one_factor_runs
from ademvl.config.study import Study
from ademvl.reporting.tables.keys import ABLATIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ademvl.reporting.reported import ReportedNumbers
    from ademvl.reporting.results import StudyResults

_SENSITIVITY = ("method.alpha", "method.beta", "method.gamma")


@dataclass(frozen=True)
class FigureText:
    """What stands beside a figure: heading, text for those who do not see it, and caption."""

    title: str
    alt: str
    caption: str


FIGURES: Mapping[str, FigureText] = {
    "learning_curves": FigureText(
        "Learning curves",
        "Training loss by optimiser step, one colour or one panel for each run.",
        "Training loss by optimiser step. A thin line is a seed, a thick one the mean over seeds.",
    ),
    "accuracy_by_category": FigureText(
        "Accuracy by category",
        "Accuracy of runs in every question category, with 95 % intervals.",
        "Accuracy by category with 95 % intervals; hollow marks are reported numbers, whose "
        "intervals are derived from n. The same numbers stand in the table.",
    ),
    "parameters": FigureText(
        "Trained parameters",
        "Trained parameters against average accuracy, reported and measured.",
        "Trained parameters against the average accuracy on ScienceQA. Reported numbers and runs "
        "of another scale have panels of their own.",
    ),
    "sensitivity": FigureText(
        "Sensitivity to alpha, beta and gamma",
        "Accuracy against alpha, beta and gamma, each varied alone.",
        "Average accuracy where one of alpha, beta and gamma is varied from a base run, which is "
        "circled (the paper's figure 2).",
    ),
    "ablations": FigureText(
        "Ablations",
        "Change of accuracy from the base row of each ablation, reported and measured.",
        "Change of the average accuracy from the base row of each of the paper's ablations. "
        "Measured intervals take the runs as if they had been asked different questions.",
    ),
    "cost": FigureText(
        "Cost and accuracy",
        "Average accuracy against time, memory and energy of training.",
        "Average accuracy on ScienceQA against what training took: time, peak memory, energy of "
        "the GPUs where they tell.",
    ),
    "quirks": FigureText(
        "One setting at a time",
        "Change of the main score by one setting, for each run that differs from a base in one.",
        "What one setting is worth: a run minus the base run that differs in it alone, on the same "
        "items, with paired 95 % intervals; strokes are seeds. Triangles: the interval leaves out "
        "0, and the spread between seeds is known.",
    ),
}


def figures_of(study: Study) -> tuple[str, ...]:
    """Return the figures that a study can fill, by its runs alone: done or not."""
    templates = study.settings.runs.values()
    has_questions = any(template.task == "scienceqa" for template in templates)
    factors = one_factor_runs(study)
    references = {r.table for template in templates for r in template.reported}
    ablated = {
        name
        for name, template in study.settings.runs.items()
        if any(r.table in ABLATIONS for r in template.reported)
    }
    others = [f for f in factors if f.path not in _SENSITIVITY and f.run not in ablated]
    wanted = {
        "learning_curves": True,
        "accuracy_by_category": True,
        "parameters": has_questions,
        "sensitivity": any(factor.path in _SENSITIVITY for factor in factors),
        "ablations": bool(references & set(ABLATIONS)),
        "cost": has_questions,
        "quirks": bool(others),
    }
    return tuple(name for name in FIGURES if wanted[name])


def write_figures(study: Study, output_dir: Path) -> None:
    """Draw the study's figures from whatever has been run; one without data says so.

    Raises:
        DataError: a score, metrics or prediction file is malformed.
    """
    from ademvl.reporting.reported import load_reported
    from ademvl.reporting.results import read_results

    draw_figures(read_results(study), load_reported(), output_dir)


def draw_figures(
    results: "StudyResults",
    reported: "ReportedNumbers",
    output_dir: Path,
    *,
    suffixes: Sequence[str] = ("png", "svg"),
) -> tuple[str, ...]:
    """Draw the figures of results that have been read, in each format; return their names.

    Raises:
        DataError: a metrics or prediction file is malformed.
    """
    from ademvl.reporting.figures.plotting import plotting, save_figure

    drawers, names = _drawers(), figures_of(results.study)
    with plotting():
        for name in names:
            figure = drawers[name](results, reported)
            save_figure(figure, output_dir / name, suffixes=suffixes)
    return names


Drawer = Callable[["StudyResults", "ReportedNumbers"], "Figure"]


def _drawers() -> Mapping[str, Drawer]:
    from ademvl.reporting.figures.ablations import draw_ablations
    from ademvl.reporting.figures.accuracy import draw_accuracy, draw_parameters
    from ademvl.reporting.figures.cost import draw_cost
    from ademvl.reporting.figures.curves import draw_learning_curves
    from ademvl.reporting.figures.factors import draw_quirks, draw_sensitivity

    return {
        "learning_curves": lambda results, _: draw_learning_curves(results),
        "accuracy_by_category": draw_accuracy,
        "parameters": draw_parameters,
        "sensitivity": lambda results, _: draw_sensitivity(results),
        "ablations": draw_ablations,
        "cost": lambda results, _: draw_cost(results),
        "quirks": lambda results, _: draw_quirks(results),
    }
