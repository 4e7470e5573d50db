"""Protects the figures: there for any state of a study, and stable: same data, same bytes."""

from pathlib import Path

from ademvl.reporting.figures import draw_accuracy, draw_learning_curves, plotting, write_figures
from ademvl.reporting.results import read_results
from tests.reporting.synthetic import SyntheticStudy

NAMES = {
    f"{figure}.{suffix}"
    for figure in ("learning_curves", "accuracy_by_category")
    for suffix in ("png", "svg")
}


def _written(synthetic: SyntheticStudy, folder: Path) -> dict[str, bytes]:
    write_figures(synthetic.study, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_data_gives_the_same_bytes(finished: SyntheticStudy, tmp_path: Path) -> None:
    first = _written(finished, tmp_path / "first")
    assert set(first) == NAMES
    assert first == _written(finished, tmp_path / "second")


def test_study_without_runs_has_figures_that_say_so(
    synthetic: SyntheticStudy, tmp_path: Path
) -> None:
    assert set(_written(synthetic, tmp_path / "figures")) == NAMES
    with plotting():
        (axis,) = draw_accuracy(read_results(synthetic.study)).axes
    assert [text.get_text() for text in axis.texts] == ["not run"]


def test_error_bars_are_the_intervals(finished: SyntheticStudy) -> None:
    results = read_results(finished.study)
    with plotting():
        (axis,) = draw_accuracy(results).axes
    estimate = results.runs[0].estimate("NAT")
    assert estimate is not None
    points, _, (bars,) = axis.containers[0]
    assert points.get_ydata()[0] == 100 * estimate.value
    low, high = bars.get_segments()[0][:, 1]
    assert abs(low - 100 * estimate.ci_low) < 1e-9
    assert abs(high - 100 * estimate.ci_high) < 1e-9


def test_every_seed_is_a_thin_line_around_the_mean(finished: SyntheticStudy) -> None:
    with plotting():
        questions, captions = draw_learning_curves(read_results(finished.study)).axes
    adem = [line for line in questions.lines if line.get_color() == questions.lines[0].get_color()]
    first, second, mean = (list(line.get_ydata()) for line in adem)
    assert mean == [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert len(captions.lines) == 1


def test_dollar_signs_in_labels_are_no_mathematics(
    finished: SyntheticStudy, tmp_path: Path
) -> None:
    finished.raw["runs"]["adem"]["label"] = "costs $5 & $x_{$"
    assert set(_written(finished, tmp_path / "figures")) == NAMES
