"""All figures of a study, PNG and SVG, from whatever has been run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ademvl.config.factors import one_factor_runs
from ademvl.config.method_groups import method_groups
from ademvl.config.study import Study
from ademvl.reporting.tables.columns import SCIENCEQA
from ademvl.reporting.tables.keys import ABLATIONS

if TYPE_CHECKING:
    from ademvl.reporting.figures.plotting import Drawing
    from ademvl.reporting.reported import ReportedNumbers
from ademvl.reporting.results import StudyResults

_SENSITIVITY = ("method.alpha", "method.beta", "method.gamma")


@dataclass(frozen=True)
class FigureText:
    """What stands beside a figure whatever it shows: heading, and text for who does not see it."""

    title: str
    alt: str


FIGURES: Mapping[str, FigureText] = {
    "learning_curves": FigureText(
        "Learning curves",
        "Training loss by optimiser step, one colour or one panel for each run.",
    ),
    "kept_tokens": FigureText(
        "Image tokens kept",
        "Fraction of the image tokens that text tokens keep, where it is learned: by layer and "
        "epoch, and by word.",
    ),
    "accuracy_by_category": FigureText(
        "Accuracy by category",
        "Accuracy of runs in every question category, with 95 % intervals; the table has the "
        "numbers.",
    ),
    "methods": FigureText(
        "Methods compared",
        "Accuracy of each method, its difference to ADEM-VL, and how often it comes first; the "
        "table has the numbers.",
    ),
    "pareto": FigureText(
        "Accuracy against cost, method by method",
        "Accuracy against trained parameters, operations and times, with the line of those that no "
        "other method beats in both.",
    ),
    "parameters": FigureText(
        "Trained parameters",
        "Trained parameters against accuracy, reported and measured.",
    ),
    "sensitivity": FigureText(
        "Sensitivity to alpha, beta and gamma",
        "Accuracy against alpha, beta and gamma, each varied alone.",
    ),
    "ablations": FigureText(
        "Ablations",
        "Change of accuracy from the base row of each ablation, reported and measured.",
    ),
    "cost": FigureText(
        "Cost and accuracy",
        "Accuracy against what training took, one panel for each kind of cost that was measured.",
    ),
    "quirks": FigureText(
        "One setting at a time",
        "Change of the main score by one setting, for each run that differs from a base in one.",
    ),
}


def figures_of(study: Study) -> tuple[str, ...]:
    """Return the figures that a study can fill, by its runs alone: done or not."""
    templates = study.settings.runs.values()
    has_questions = any(template.task == SCIENCEQA for template in templates)
    factors = one_factor_runs(study)
    groups = method_groups(study)
    references = {r.table for template in templates for r in template.reported}
    ablated = {
        name
        for name, template in study.settings.runs.items()
        if any(r.table in ABLATIONS for r in template.reported)
    }
    others = [f for f in factors if f.path not in _SENSITIVITY and f.run not in ablated]
    wanted = {
        "learning_curves": True,
        "kept_tokens": any(template.method.learns_what_is_kept for template in templates),
        "accuracy_by_category": True,
        "methods": bool(groups),
        "pareto": bool(groups),
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
) -> dict[str, str]:
    """Draw the figures of results that have been read, in each format.

    Returns:
        By figure, a caption of what is to be seen in it.

    Raises:
        DataError: a metrics or prediction file is malformed.
    """
    from ademvl.reporting.figures.plotting import plotting, save_figure

    drawers, captions = _drawers(), {}
    with plotting():
        for name in figures_of(results.study):
            drawing = drawers[name](results, reported)
            save_figure(drawing.figure, output_dir / name, suffixes=suffixes)
            captions[name] = drawing.caption
    return captions


Drawer = Callable[["StudyResults", "ReportedNumbers"], "Drawing"]


def _drawers() -> Mapping[str, Drawer]:
    from ademvl.reporting.figures.ablations import draw_ablations
    from ademvl.reporting.figures.categories import draw_accuracy
    from ademvl.reporting.figures.cost import draw_cost
    from ademvl.reporting.figures.curves import draw_learning_curves
    from ademvl.reporting.figures.factors import draw_quirks, draw_sensitivity
    from ademvl.reporting.figures.kept import draw_kept
    from ademvl.reporting.figures.methods import draw_methods
    from ademvl.reporting.figures.parameters import draw_parameters
    from ademvl.reporting.figures.pareto import draw_pareto

    return {
        "learning_curves": lambda results, _: draw_learning_curves(results),
        "kept_tokens": lambda results, _: draw_kept(results),
        "accuracy_by_category": draw_accuracy,
        "methods": draw_methods,
        "pareto": draw_pareto,
        "parameters": draw_parameters,
        "sensitivity": lambda results, _: draw_sensitivity(results),
        "ablations": draw_ablations,
        "cost": lambda results, _: draw_cost(results),
        "quirks": lambda results, _: draw_quirks(results),
    }
