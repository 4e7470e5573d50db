"""Protects the table at the end of the command: its width, its headline, its honesty."""

from pathlib import Path

import pytest

from ademvl.evaluation.comparison.compare import compare
from ademvl.evaluation.comparison.item_scores import paired_effect, read_item_scores
from ademvl.reporting.headlines import find_headlines
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.summary import main_table, print_main_table
from ademvl.statistics.intervals import ITEMS_MARK
from tests.reporting.page.page_study import answered_study
from tests.reporting.synthetic import SyntheticStudy

REPORTED_DIR = Path(__file__).resolve().parents[2] / "workflow" / "reported"


def test_headline_is_the_difference_on_questions_with_an_image(tmp_path: Path) -> None:
    (headline,) = find_headlines(read_results(answered_study(tmp_path).study))
    # Of 30 questions with an image 24 are right, and 15 of the control.
    assert headline.difference.value == pytest.approx(24 / 30 - 15 / 30)
    assert headline.sentence.startswith(
        "images over text-only: cannot tell, one seed. ADEM-VL minus text-only control, questions "
        "with an image: +30.00 ("
    )


def test_headline_effects_and_comparison_print_the_same_interval(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    runs = study.study.results_dir / "runs"
    found = compare(runs / "adem", runs / "text_only").differences["IMG"]
    (headline,) = find_headlines(read_results(study.study))
    assert headline.difference == found
    sides = [read_item_scores([runs / name / "seed0"]) for name in ("adem", "text_only")]
    of_all = compare(runs / "adem" / "seed0", runs / "text_only" / "seed0").differences["AVG"]
    assert paired_effect(*sides, seed=0) == of_all


def test_no_headline_without_predictions_to_pair(
    finished: SyntheticStudy, caplog: pytest.LogCaptureFixture
) -> None:
    assert find_headlines(read_results(finished.study)) == []
    assert "ADEM-VL is not compared with text-only control" in caplog.text


def test_no_headline_without_control(synthetic: SyntheticStudy) -> None:
    synthetic.finish_scienceqa("adem", {"IMG": (9, 10), "AVG": (9, 10)})
    assert find_headlines(read_results(synthetic.study)) == []


def test_main_table_fits_a_terminal(finished: SyntheticStudy) -> None:
    finished.raw["runs"]["adem"]["label"] = "a run with quite a long name, " * 4
    text = main_table(read_results(finished.study), load_reported(REPORTED_DIR))
    tables = [line for line in text.splitlines() if not line.startswith("  ")]
    assert max(map(len, tables)) <= 100
    assert "87.50 (" in text
    assert ITEMS_MARK in text


def test_main_table_of_nothing_says_not_run(
    synthetic: SyntheticStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    print_main_table(synthetic.study)
    printed = capsys.readouterr().out
    assert printed.count("not run") == 3
    assert "not comparable in size" in printed


def test_main_table_points_only_to_what_exists(finished: SyntheticStudy) -> None:
    numbers = load_reported(REPORTED_DIR)
    assert "Look further" not in main_table(read_results(finished.study), numbers)
    (finished.study.results_dir / "report").mkdir()
    (finished.study.results_dir / "report" / "index.html").touch()
    assert "report/index.html" in main_table(read_results(finished.study), numbers)
