"""Protects the comparison of methods: fair pairs, one ranking everywhere, no claim by few seeds."""

import json
import re
from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.config.method_groups import method_groups
from ademvl.reporting.figures.build import figures_of
from ademvl.reporting.figures.methods import draw_methods
from ademvl.reporting.figures.pareto import draw_pareto, pareto_front
from ademvl.reporting.figures.plotting import plotting
from ademvl.reporting.method_comparison import MethodComparison, compare_methods
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import StudyResults, read_results
from ademvl.reporting.summary import main_table
from ademvl.reporting.tables.build import render_tables
from ademvl.reporting.tables.comparison import short_text
from tests.reporting.page.peers_study import peers_study
from tests.reporting.synthetic import SyntheticStudy

NAMES = ("adem", "adem_online", "text_only", "no_adaptive_fusion", "memvp", "llava_lora")
REPORTED = load_reported()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    folder = tmp_path_factory.mktemp("peers")
    return read_results(peers_study(folder, only=NAMES, num_seeds=3, num_test=60).study)


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    folder = tmp_path_factory.mktemp("one_seed")
    return read_results(peers_study(folder, only=NAMES, num_seeds=1, num_test=60).study)


@pytest.fixture(scope="module")
def tables(results: StudyResults) -> dict[str, str]:
    return render_tables(results, REPORTED)


@pytest.fixture(scope="module")
def comparison(results: StudyResults) -> MethodComparison:
    (found,) = compare_methods(results, REPORTED)
    return found


def test_methods_are_paired_by_how_they_read_images(results: StudyResults) -> None:
    (group,) = method_groups(results.study)
    assert group.bases == {
        "adem": "adem",
        "adem_online": "adem_online",
        "text_only": "adem",
        "memvp": "adem_online",
        "llava_lora": "adem",
    }  # further runs of ADEM-VL are ablations


def test_runs_that_are_asked_otherwise_are_not_compared(synthetic: SyntheticStudy) -> None:
    runs = {
        "adem": {},
        "memvp": {"method": {"name": "memvp"}, "evaluation": {"split": "val"}},
        "again": {"adapter": "adem", "evaluation": {"answer_by": "letter"}},
    }
    synthetic.raw["runs"] = runs
    assert method_groups(synthetic.study) == ()
    runs["memvp"]["evaluation"] = {"split": "test"}
    assert [tuple(group.bases) for group in method_groups(synthetic.study)] == [("adem", "memvp")]
    assert "methods" in figures_of(synthetic.study)


def test_ranking_and_difference_go_together(comparison: MethodComparison) -> None:
    rows = {row.run.name: row for row in comparison.rows}
    assert list(comparison.parts) == ["Frozen tower", "Adapters in the tower"]
    for part in comparison.parts.values():
        ranks = [row.rank for row in part if row.rank]
        assert sum(rank.first for rank in ranks) == pytest.approx(1.0)
        assert sorted(rank.place for rank in ranks) == list(range(1, len(part) + 1))
    control = rows["text_only"]
    assert control.difference is not None
    assert control.rank is not None
    assert control.difference.value == pytest.approx(
        (control.accuracy or 0) - (rows["adem"].accuracy or 0)
    )
    assert (control.rank.first, control.rank.place) == (0.0, 3)
    assert rows["adem"].difference is None


def test_reported_order_is_compared_over_all_parts(comparison: MethodComparison) -> None:
    assert comparison.order is not None
    assert comparison.order.num_methods == 3
    assert comparison.order.interval is not None
    assert comparison.order.interval.low <= comparison.order.tau <= 1.0


def test_table_has_costs_and_the_papers_order(tables: dict[str, str]) -> None:
    table = tables["comparison.md"]
    assert "training (s/step)" in table
    assert "inference (GFLOP/item)" in table
    memvp = next(line for line in table.splitlines() if line.startswith("| MemVP"))
    assert "93.07" in memvp
    for name in ("comparison.md", "comparison.html", "comparison.tex"):
        assert "ADEM-VL, CLIP adapters" in tables[name]


def test_everywhere_the_same_is_said(
    results: StudyResults, comparison: MethodComparison, tables: dict[str, str]
) -> None:
    terminal = " ".join(main_table(results, REPORTED).split())
    markdown = tables["comparison.md"].replace("\\", "")
    for sentence in comparison.sentences:
        assert sentence in terminal
        assert sentence in markdown
    assert "first of 2 comes" in terminal


def test_text_for_readme_has_the_tables_numbers(
    comparison: MethodComparison, tables: dict[str, str]
) -> None:
    text = short_text([comparison])
    for number in re.findall(r"[+−]?\d+\.\d\d(?= \[)", text):
        assert number in tables["comparison.md"]
    assert text.count("| 0, 1, 2 |") == len(comparison.rows)
    assert all(f"- {sentence}\n" in text for sentence in comparison.sentences)


def test_ranking_refuses_a_study_of_one_method(
    finished: SyntheticStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished.study.results_dir / "study.yaml"
    path.write_text(json.dumps(finished.raw))
    assert main(["ranking", str(path)]) == 2
    assert "nothing can be ranked" in capsys.readouterr().err
    finished.raw["runs"]["memvp"] = {"method": {"name": "memvp"}}
    path.write_text(json.dumps(finished.raw))
    assert main(["ranking", str(path)]) == 0
    assert "not run" in capsys.readouterr().out


def test_one_seed_each_has_numbers_but_neither_verdict_nor_ranking(one_seed: StudyResults) -> None:
    (found,) = compare_methods(one_seed, REPORTED)
    assert all(row.rank is None for row in found.rows)
    assert all(row.accuracy is not None for row in found.rows)
    assert found.order is not None
    assert found.order.interval is None
    table = render_tables(one_seed, REPORTED)["comparison.md"]
    assert "no ranking, too few seeds" in table
    assert "cannot tell, one seed" in table
    assert not re.search(r"\| (lower|higher) \|", table)


def test_nothing_run_says_so(synthetic: SyntheticStudy) -> None:
    synthetic.raw["runs"]["memvp"] = {"method": {"name": "memvp"}}
    results = read_results(synthetic.study)
    (found,) = compare_methods(results, REPORTED)
    assert found.sentences == ()
    assert "not run" in render_tables(results, REPORTED)["comparison.md"]
    with plotting():
        assert "not run" in draw_methods(results, REPORTED).caption
        assert "not run" in draw_pareto(results, REPORTED).caption


def test_figures_show_every_method_and_no_ranking_from_one_seed(
    results: StudyResults, one_seed: StudyResults
) -> None:
    with plotting():
        drawn = draw_methods(results, REPORTED)
        few = draw_methods(one_seed, REPORTED)
        pareto = draw_pareto(results, REPORTED)
    labels = [tick.get_text() for axis in drawn.figure.axes for tick in axis.get_yticklabels()]
    assert {"MemVP", "ADEM-VL, CLIP adapters"} <= set(labels)
    texts = [text.get_text() for axis in few.figure.axes for text in axis.texts]
    assert texts == ["no ranking:\ntoo few seeds"] * 2
    assert "Right" not in few.caption
    assert len(pareto.figure.axes) == 4


def test_front_leaves_out_what_costs_more_and_gives_no_more() -> None:
    points = [(2.0, 80.0), (1.0, 70.0), (3.0, 80.0), (1.0, 60.0), (4.0, 90.0)]
    assert pareto_front(points) == [(1.0, 70.0), (2.0, 80.0), (4.0, 90.0)]


def test_study_of_one_method_shows_the_papers_comparison_alone(finished: SyntheticStudy) -> None:
    table = render_tables(read_results(finished.study), REPORTED)["comparison.md"]
    assert "Measured" not in table
    assert "93.85" in table


def test_missing_data_is_told_and_nothing_is_ranked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study = peers_study(tmp_path, only=("adem", "llava_lora"), num_seeds=1)
    (tmp_path / "results/peers/runs/llava_lora/seed0/predictions/scienceqa.jsonl").unlink()
    (found,) = compare_methods(read_results(study.study, refuse_doubtful=False), REPORTED)
    assert all(row.difference is None and row.rank is None for row in found.rows)
