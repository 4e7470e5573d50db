"""Protects the figures: which a study has, what they show of any state, and stable bytes."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ademvl.config.settings_files import read_run
from ademvl.reporting.effects import Effect, measure_effects, quirk_factors
from ademvl.reporting.figures.ablations import draw_ablations
from ademvl.reporting.figures.build import FIGURES, draw_figures, figures_of, write_figures
from ademvl.reporting.figures.categories import draw_accuracy
from ademvl.reporting.figures.cost import draw_cost
from ademvl.reporting.figures.curves import draw_learning_curves, scale_losses
from ademvl.reporting.figures.factors import draw_quirks, draw_sensitivity
from ademvl.reporting.figures.kept import draw_kept
from ademvl.reporting.figures.parameters import draw_parameters, main_runs
from ademvl.reporting.figures.plotting import (
    INK,
    MARK_SIZE,
    MAX_LINES,
    MAX_SERIES,
    Drawing,
    mark_of,
    mark_sizes,
    new_figure,
    on_dark,
    plotting,
)
from ademvl.reporting.reported import ReportedNumbers, load_reported
from ademvl.reporting.results import StudyResults, read_results
from ademvl.runs.kept import KeptRow, write_kept
from ademvl.tasks.scienceqa.reader import load_scienceqa
from tests.reporting.synthetic import SyntheticStudy, header_of, write_evaluation
from tests.tiny import make_scienceqa

OF_ONE_METHOD = tuple(name for name in FIGURES if name not in ("methods", "pareto", "kept_tokens"))
"""The others have tests of their own, two of them in tests/reporting/test_method_comparison.py."""
ALWAYS = ("learning_curves", "accuracy_by_category", "parameters", "cost")


@pytest.fixture(scope="module")
def reported() -> ReportedNumbers:
    return load_reported()


@pytest.fixture
def varied(tmp_path: Path) -> SyntheticStudy:
    """A study with a base run, runs that vary it, and one ablation."""
    rows = {"phi: silu": "silu", "phi: relu": "relu", "phi: identity": "identity"}
    runs: dict[str, Any] = {
        "adem": {"label": "base"},
        "alpha_1": {"method": {"alpha": 1.0}},
        "gamma_0": {"method": {"gamma": 0.0}},
        "max_pool": {"label": "max-pooled", "method": {"pool": "max"}},
        "no_cls": {"label": "without [cls]", "method": {"cls": False}},
    }
    for row, phi in rows.items():
        name = "adem" if phi == "silu" else phi
        runs.setdefault(name, {"label": phi, "method": {"phi": phi}})
        runs[name]["reported"] = [{"table": "ablation_projection", "row": row}]
    synthetic = SyntheticStudy(tmp_path, runs=runs, base_runs=["adem"])
    for name, correct in (("adem", 279), ("alpha_1", 250), ("gamma_0", 275), ("relu", 240)):
        synthetic.finish_scienceqa(name, {"IMG": (correct - 90, 200), "AVG": (correct, 300)})
    return synthetic


def _names(figures: tuple[str, ...]) -> set[str]:
    return {f"{figure}.{suffix}" for figure in figures for suffix in ("png", "svg")}


def _written(synthetic: SyntheticStudy, folder: Path) -> dict[str, bytes]:
    write_figures(synthetic.study, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _texts(figure: Any) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_study_has_the_figures_that_its_runs_can_fill(
    synthetic: SyntheticStudy, varied: SyntheticStudy, tmp_path: Path
) -> None:
    assert figures_of(synthetic.study) == ALWAYS
    assert figures_of(varied.study) == OF_ONE_METHOD
    captions = SyntheticStudy(tmp_path, runs={"captions": {"task": "coco_caption"}})
    assert figures_of(captions.study) == ("learning_curves", "accuracy_by_category")


def test_same_data_gives_the_same_bytes(varied: SyntheticStudy, tmp_path: Path) -> None:
    varied.raw["runs"]["adem"]["label"] = "costs $5 & $x_{$"  # no mathematics
    first = _written(varied, tmp_path / "first")
    assert set(first) == _names(OF_ONE_METHOD)
    assert first == _written(varied, tmp_path / "second")


def test_kept_tokens_are_drawn_by_layer_epoch_and_word(tmp_path: Path) -> None:
    learning = {"method": {"threshold": "per_token"}, "seeds": [0, 1]}
    synthetic = SyntheticStudy(tmp_path, runs={"adem": {}, "learned": learning, "later": learning})
    assert "kept_tokens" in figures_of(synthetic.study)
    for seed, kept in ((0, 0.6), (1, 0.8)):
        rows = [
            *(KeptRow(0.0, layer, "", 0.9, 40) for layer in (0, 1)),
            KeptRow(0.0, -1, "color", 0.9, 5),
            *(KeptRow(2.0, layer, "", kept - layer / 10, 40) for layer in (0, 1)),
            KeptRow(2.0, -1, "color", kept, 5),
            KeptRow(2.0, -1, "once", 0.1, 1),
        ]
        write_kept(synthetic.run_dir("learned", seed) / "kept.csv", rows)
    by_layer, by_word, *later = draw_kept(read_results(synthetic.study)).figure.axes
    assert [line.get_xydata().tolist() for line in by_layer.lines] == [
        [[0.0, 0.9], [2.0, pytest.approx(0.7 - layer / 10)]] for layer in (0, 1)
    ]
    assert [label.get_text() for label in by_word.get_yticklabels()] == ["color"]
    assert [line.get_xdata().tolist() for line in by_word.lines] == [[0.9], [pytest.approx(0.7)]]
    assert all(_texts_of(axis) == ["not run"] for axis in later)


def _texts_of(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.texts]


def _of_any_study(results: StudyResults, reported: ReportedNumbers) -> list[Drawing]:
    return [
        draw_learning_curves(results),
        draw_accuracy(results, reported),
        draw_parameters(results, reported),
        draw_cost(results),
    ]


def test_study_without_runs_has_figures_that_say_so(
    synthetic: SyntheticStudy, reported: ReportedNumbers
) -> None:
    results = read_results(synthetic.study)
    with plotting():
        figures = _of_any_study(results, reported)
    for drawing in figures:
        assert "not run" in _texts(drawing.figure)


def test_error_bars_are_the_intervals(finished: SyntheticStudy, reported: ReportedNumbers) -> None:
    results = read_results(finished.study)
    with plotting():
        axis = draw_accuracy(results, reported).figure.axes[0]  # of the first category
    estimate = results.runs[0].estimate("NAT")
    assert estimate is not None
    _, _, (bars,) = axis.containers[0]
    assert axis.lines[0].get_xdata()[0] == 100 * estimate.value
    low, high = bars.get_segments()[0][:, 0]
    assert abs(low - 100 * estimate.ci_low) < 1e-9
    assert abs(high - 100 * estimate.ci_high) < 1e-9


def test_interval_of_items_only_is_dotted_and_the_caption_says_so_then_alone(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    def styles() -> tuple[set[bool], bool]:
        with plotting():
            drawing = draw_accuracy(read_results(finished.study), reported)
        bars = [bar for a in drawing.figure.axes for c in a.containers for bar in c[2]]
        dashes = [bar.get_linestyle()[0][1] for bar in bars]
        return {found is None for found in dashes}, "Dotted" in drawing.caption

    assert styles() == ({False}, True)
    for name in ("adem", "text_only"):
        finished.raw["runs"][name]["seeds"] = list(range(5))
        for seed in range(5):
            finished.finish_scienceqa(name, {"NAT": (90, 100), "AVG": (90, 100)}, seed=seed)
    assert styles() == ({True}, False)


def test_reported_numbers_stand_beside_runs_of_their_scale_only(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    row = "ADEM-VL, LLaMA-7B"
    finished.raw["runs"]["adem"]["reported"] = [{"table": "scienceqa_test", "row": row}]
    for expected in ([], [93.95, 93.85]):
        if expected:
            finished.at_paper_scale()
        for seed in (0, 1):
            finished.finish_scienceqa("adem", {"IMG": (1900, 2017), "AVG": (3980, 4241)}, seed=seed)
        finished.finish_scienceqa("text_only", {"IMG": (900, 2017), "AVG": (2000, 4241)})
        with plotting():
            drawing = draw_accuracy(read_results(finished.study), reported)
        axes = drawing.figure.axes
        hollow = [
            float(line.get_xdata()[0])
            for axis in axes
            for line in axis.lines
            if line.get_markerfacecolor() == "white"
        ]
        labels = [text.get_text().replace("\n", " ") for text in axes[0].get_yticklabels()]
        assert hollow == expected
        assert any(row in label for label in labels) == bool(expected)
        assert ("Hollow" in drawing.caption) == bool(expected)


def test_categories_are_named_in_the_words_of_the_study(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    with plotting():
        figure = draw_accuracy(read_results(finished.study), reported).figure
    titles = [axis.get_title().replace("\n", " ") for axis in figure.axes]
    assert titles[0] == "questions for a colour n = 100"
    assert titles[-1] == "all questions n = 300"


def test_every_figure_says_its_scale(varied: SyntheticStudy, reported: ReportedNumbers) -> None:
    varied.raw["scale"] = "mini"
    results = read_results(varied.study)
    with plotting():
        drawings = [
            *_of_any_study(results, reported),
            draw_sensitivity(results),
            draw_ablations(results, reported),
            draw_quirks(results),
        ]
    assert all("mini scale" in drawing.figure.get_suptitle() for drawing in drawings)


def test_figures_on_dark_have_nothing_in_the_colours_of_ink_and_paper(
    varied: SyntheticStudy, reported: ReportedNumbers, tmp_path: Path
) -> None:
    names = draw_figures(read_results(varied.study), reported, tmp_path, suffixes=["svg"])
    for name in names:
        light = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        dark = on_dark(light)
        assert INK in light
        assert not {INK, "#ffffff", "#000000"} & set(re.findall("#[0-9a-f]{6}", dark))
        assert len(dark) == len(light)


def test_marks_of_all_runs_differ(varied: SyntheticStudy) -> None:
    assert len({mark_of(index) for index in range(MAX_SERIES)}) == MAX_SERIES


def test_every_seed_is_a_thin_line_around_the_mean(finished: SyntheticStudy) -> None:
    with plotting():
        questions, captions = draw_learning_curves(read_results(finished.study)).figure.axes
    adem = [line for line in questions.lines if line.get_color() == questions.lines[0].get_color()]
    first, second, mean = (list(line.get_ydata()) for line in adem)
    assert mean == [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert len(captions.lines) == 1


def test_run_that_takes_an_adapter_has_no_curve(finished: SyntheticStudy) -> None:
    finished.raw["runs"]["again"] = {"adapter": "adem", "evaluation": {"answer_by": "likelihood"}}
    for seed in (0, 1):
        finished.finish_scienceqa("again", {"AVG": (9, 10)}, seed=seed)
    with plotting():
        questions = draw_learning_curves(read_results(finished.study)).figure.axes[0]
    labels = [text.get_text() for text in questions.get_legend().get_texts()]
    assert [label.partition(" (")[0] for label in labels] == ["ADEM-VL", "text-only control"]


def test_many_runs_have_a_panel_each(finished: SyntheticStudy) -> None:
    for number in range(MAX_LINES):
        finished.raw["runs"][f"run_{number}"] = {"label": f"number {number}"}
    with plotting():
        figure = draw_learning_curves(read_results(finished.study)).figure
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert [title for title in titles if title] == [
        run.label for run in read_results(finished.study).runs
    ]
    assert _texts(figure) == ["not run"] * MAX_LINES


def test_only_as_many_runs_as_colours_share_a_panel(varied: SyntheticStudy) -> None:
    for number in range(MAX_SERIES):
        varied.raw["runs"][f"more_{number}"] = {}
    varied.raw["base_runs"] = ["more_6"]
    results = read_results(varied.study)
    chosen = [run.name for run in main_runs(results, results.of_task("scienceqa"))]
    assert len(chosen) == MAX_SERIES
    assert "more_6" in chosen  # base runs come first


def test_sensitivity_is_drawn_by_value_with_its_base(varied: SyntheticStudy) -> None:
    with plotting():
        figure = draw_sensitivity(read_results(varied.study)).figure
    alpha, beta, gamma = figure.axes
    assert list(alpha.lines[0].get_xdata()) == [0.1, 1.0]
    assert list(alpha.lines[0].get_ydata()) == pytest.approx([93.0, 100 * 250 / 300])
    assert list(gamma.lines[0].get_xdata()) == [0.0, 0.1]
    assert [text.get_text() for text in beta.texts] == ["not run"]


def test_ablation_bars_are_changes_from_the_base_row(
    varied: SyntheticStudy, reported: ReportedNumbers
) -> None:
    with plotting():
        figure = draw_ablations(read_results(varied.study), reported).figure
    left, right = figure.axes  # one ablation has runs
    labels = [label.get_text() for label in left.get_yticklabels()]
    relu = labels.index("relu")
    assert left.patches[relu].get_width() == pytest.approx(91.99 - 93.85)
    assert right.patches[relu].get_width() == pytest.approx(100 * (240 - 279) / 300)
    texts = [text.get_text() for text in right.texts]
    assert (texts.count("not run"), texts.count("base")) == (4, 1)


def _marks(axis: Any) -> dict[str, tuple[str, str]]:
    """Return colour and marker of what the legend names; of points with intervals, the points'."""
    handles, labels = axis.get_legend_handles_labels()
    points = [getattr(handle, "lines", [handle])[0] for handle in handles]
    return {
        label: (point.get_color(), point.get_marker())
        for label, point in zip(labels, points, strict=True)
    }


def test_method_has_the_mark_of_the_run_that_reproduces_it(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    row = {"table": "scienceqa_test", "row": "MemVP, LLaMA-7B"}
    finished.raw["runs"]["adem"]["reported"] = [row]
    with plotting():
        left, right = draw_parameters(read_results(finished.study), reported).figure.axes
    ours, theirs = map(_marks, (right, left))
    assert theirs.pop("MemVP") == ours["ADEM-VL"]
    assert len({*theirs.values(), *ours.values()}) == len(theirs) + len(ours)


def test_parameters_of_another_scale_stay_in_their_panel(
    finished: SyntheticStudy, reported: ReportedNumbers
) -> None:
    with plotting():
        left, right = draw_parameters(read_results(finished.study), reported).figure.axes
    drawn = {line.get_xdata()[0] for line in left.lines}
    assert min(drawn) > 1
    printed = {float(row.trainable[:-1]) for row in reported.tables["scienceqa_test"].rows
               if row.trainable.endswith("M")}  # fmt: skip
    assert drawn <= printed  # each where it belongs, also where several are equal
    assert {line.get_xdata()[0] for line in right.lines} == {0.123456}


def test_cost_is_the_mean_over_seeds(finished: SyntheticStudy) -> None:
    path = finished.run_dir("adem", 1) / "provenance.json"
    path.write_text(path.read_text().replace("61.5", "121.5"))
    with plotting():
        drawing = draw_cost(read_results(finished.study))
    time, memory = drawing.figure.axes  # no panel for energy, which the CPU does not tell
    assert time.lines[0].get_xdata()[0] == pytest.approx(91.5 / 60)
    assert memory.lines[0].get_xdata()[0] == pytest.approx(900 / 1024)
    assert "Not measured here: energy of GPUs." in drawing.caption
    for axis in (time, memory):
        right = max(float(line.get_xdata()[0]) for line in axis.lines)
        assert axis.get_xlim()[1] > 1.02 * right  # no mark on the edge


def _predict(synthetic: SyntheticStudy, name: str, num_wrong: int) -> None:
    """Write a run's predictions of four questions, the first ones wrong."""
    data = Path(synthetic.raw["shared_dir"]) / "data" / "shapes" / "scienceqa"
    if not data.is_dir():
        make_scienceqa(data, num_test=4)
    folder = synthetic.finish_scienceqa(name, {"AVG": (4 - num_wrong, 4)})
    problems = load_scienceqa(data).split("test")
    rows = [
        {"id": p.question_id, "predicted_index": (p.answer_index + (place < num_wrong)) % 2}
        for place, p in enumerate(problems)
    ]
    run = read_run(folder)
    write_evaluation(folder, run, rows, header_of(run))


def _quirk_effects(results: StudyResults) -> list[Effect]:
    return measure_effects(results, quirk_factors(results))


def test_quirks_are_paired_differences(varied: SyntheticStudy) -> None:
    _predict(varied, "adem", num_wrong=0)
    _predict(varied, "max_pool", num_wrong=1)
    results = read_results(varied.study)
    pooled, cls = _quirk_effects(results)
    assert (pooled.run.name, pooled.factor.path) == ("max_pool", "method.pool")
    assert pooled.difference is not None
    assert (pooled.difference.value, pooled.difference.n) == (pytest.approx(-1 / 4), 4)
    assert (cls.difference, cls.state) == (None, "not run")
    with plotting():
        (axis,) = draw_quirks(results).figure.axes
    assert axis.lines[0].get_xdata()[0] == pytest.approx(-25)
    assert [text.get_text() for text in axis.texts] == ["not run"]


def test_runs_whose_data_is_gone_are_not_compared(varied: SyntheticStudy) -> None:
    _predict(varied, "adem", num_wrong=0)
    _predict(varied, "max_pool", num_wrong=1)
    data = Path(varied.raw["shared_dir"]) / "data" / "shapes" / "scienceqa"
    shutil.rmtree(data)
    assert _quirk_effects(read_results(varied.study))[0].state == "cannot be compared, see the log"


def test_marks_in_one_place_are_seen_one_inside_the_other() -> None:
    places = [(1.0, 99.0), (2.0, 50.0), (1.0, 99.1)]
    assert mark_sizes(places) == [MARK_SIZE + 3, MARK_SIZE, MARK_SIZE]
    assert mark_sizes([]) == []


@pytest.mark.parametrize("ends", [(0.2, 0.6), (0.09, 0.95), (0.05, 0.9), (0.5, 30.0), (1e-4, 1.0)])
def test_an_axis_of_losses_has_several_labelled_ticks(ends: tuple[float, float]) -> None:
    with plotting():
        figure = new_figure(4, 3)
        axis = figure.subplots()
        axis.plot([0, 10], ends)
        scale_losses(axis)
        figure.draw_without_rendering()
    low, high = axis.get_ylim()
    ticks = [*axis.yaxis.get_major_ticks(), *axis.yaxis.get_minor_ticks()]
    shown = [
        tick for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text().strip()
    ]
    assert 3 <= len(shown) <= 14


def test_marks_at_the_edge_are_whole(finished: SyntheticStudy, reported: ReportedNumbers) -> None:
    with plotting():
        figure = draw_accuracy(read_results(finished.study), reported).figure
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", "|")]
    assert marks
    assert not any(line.get_clip_on() for line in marks)
