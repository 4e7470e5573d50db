"""Protects the table at the end of the command: its width, its headline, its honesty."""

from pathlib import Path

import pytest

from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.summary import compare_with_controls, main_table, print_main_table
from tests.reporting.synthetic import SyntheticStudy

REPORTED_DIR = Path(__file__).resolve().parents[2] / "workflow" / "reported"


def test_headline_is_the_difference_on_questions_with_an_image(finished: SyntheticStudy) -> None:
    (comparison,) = compare_with_controls(read_results(finished.study))
    mean = (170 / 200 + 180 / 200) / 2
    assert comparison.points == pytest.approx(100 * (mean - 80 / 200))
    assert comparison.ci_low < comparison.points < comparison.ci_high
    assert comparison.sentence.startswith("ADEM-VL: +47.5 points over text-only control")


def test_interval_of_the_difference_joins_both_intervals(finished: SyntheticStudy) -> None:
    results = read_results(finished.study)
    (comparison,) = compare_with_controls(results)
    ours, theirs = results.runs[0].estimate("IMG"), results.runs[1].estimate("IMG")
    assert ours is not None
    assert theirs is not None
    below = ((ours.value - ours.ci_low) ** 2 + (theirs.ci_high - theirs.value) ** 2) ** 0.5
    assert comparison.ci_low == pytest.approx(comparison.points - 100 * below)


def test_no_headline_without_control(synthetic: SyntheticStudy) -> None:
    synthetic.finish_scienceqa("adem", {"IMG": (9, 10), "AVG": (9, 10)})
    assert compare_with_controls(read_results(synthetic.study)) == []


def test_main_table_fits_a_terminal(finished: SyntheticStudy) -> None:
    finished.raw["runs"]["adem"]["label"] = "a run with quite a long name, " * 4
    text = main_table(read_results(finished.study), load_reported(REPORTED_DIR))
    tables = [line for line in text.splitlines() if not line.startswith("  ")]
    assert max(map(len, tables)) <= 100
    assert "87.50 [" in text


def test_main_table_of_nothing_says_not_run(
    synthetic: SyntheticStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    print_main_table(synthetic.study, reported_dir=REPORTED_DIR)
    printed = capsys.readouterr().out
    assert printed.count("not run") == 3
    assert "not comparable in size" in printed


def test_main_table_points_only_to_what_exists(finished: SyntheticStudy) -> None:
    numbers = load_reported(REPORTED_DIR)
    assert "Look further" not in main_table(read_results(finished.study), numbers)
    (finished.study.results_dir / "report").mkdir()
    (finished.study.results_dir / "report" / "index.html").touch()
    assert "report/index.html" in main_table(read_results(finished.study), numbers)
