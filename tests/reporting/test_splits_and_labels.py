"""Protects that scores which do not compare are told apart: other splits, runs with one label."""

import csv
import io
import shutil
from pathlib import Path

import pytest

from ademvl.config.study_settings import NOTED_COLUMNS
from ademvl.config.tasks import all_facts
from ademvl.reporting.reported import ReportedNumbers, load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.summary import main_table
from ademvl.reporting.tables.build import render_tables
from ademvl.reporting.tables.columns import task_columns
from tests.conftest import PROJECT_ROOT
from tests.reporting.conftest import finish
from tests.reporting.page.page_study import answered_study, make_page
from tests.reporting.synthetic import SyntheticStudy

ABLATION = "ablation_projection"
FORMATS = ("md", "tex", "html", "csv")


@pytest.fixture(scope="module")
def reported() -> ReportedNumbers:
    return load_reported(PROJECT_ROOT / "workflow" / "reported")


def _mixed(study: SyntheticStudy) -> SyntheticStudy:
    """Score one of the runs on val; finish all."""
    study.raw["runs"]["adem"]["evaluation"] = {"split": "val"}
    return finish(study)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_table_tells_the_split_at_the_name_where_not_all_are_scored_on_test(
    synthetic: SyntheticStudy, reported: ReportedNumbers, suffix: str
) -> None:
    files = render_tables(read_results(_mixed(synthetic).study), reported)
    for table in ("accuracy", "cost"):
        assert "ADEM-VL (val)" in files[f"{table}.{suffix}"]
        assert "text-only control (test)" in files[f"{table}.{suffix}"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_table_tells_a_split_where_all_are_scored_on_test(
    finished: SyntheticStudy, reported: ReportedNumbers, suffix: str
) -> None:
    files = render_tables(read_results(finished.study), reported)
    assert "(test)" not in "".join(text for name, text in files.items() if name.endswith(suffix))


def test_csv_has_the_split_of_every_score(
    synthetic: SyntheticStudy, reported: ReportedNumbers
) -> None:
    files = render_tables(read_results(_mixed(synthetic).study), reported)
    splits = {
        line["key"]: line["split"]
        for table in ("accuracy", "captions")
        for line in csv.DictReader(io.StringIO(files[f"{table}.csv"]))
        if line["value"]
    }
    assert (splits["adem"], splits["text_only"]) == ("val", "test")
    assert (splits["ceiling_captions"], splits["ADEM-VL, LLaMA-7B"]) == ("test", "test")


def test_summary_tells_split_and_number_of_items_and_no_difference_between_splits(
    tmp_path: Path, reported: ReportedNumbers
) -> None:
    study = answered_study(tmp_path)
    first = main_table(read_results(study.study), reported)
    assert "minus text-only control" in first
    assert "IMG (n = 30)" in first
    study.raw["runs"]["adem"]["evaluation"] = {"split": "val"}
    for seed in (0, 1):
        shutil.rmtree(study.run_dir("adem", seed) / "predictions")
        study.finish_scienceqa("adem", {"IMG": (10, 12), "AVG": (12, 15)}, seed=seed)
    text = main_table(read_results(study.study), reported)
    assert " minus " not in text
    adem, control = (
        next(line for line in text.splitlines() if f"({split})" in line)
        for split in ("val", "test")
    )
    assert "12, 15" in adem
    assert "30, 45" in control
    assert max(map(len, text.splitlines()[:9])) <= 100


def test_no_change_between_splits_stands_in_an_ablation(
    synthetic: SyntheticStudy, reported: ReportedNumbers
) -> None:
    rows = reported.tables[ABLATION].rows
    base = next(row for row in rows if row.name == reported.tables[ABLATION].base)
    other = next(row for row in rows if row.name != base.name)
    for run, row in (("adem", base), ("text_only", other)):
        synthetic.raw["runs"][run]["reported"] = [{"table": ABLATION, "row": row.name}]
    same = render_tables(read_results(finish(synthetic).study), reported)[f"{ABLATION}.csv"]
    changes = [line for line in _changes(same) if line["value"]]
    assert [line["run"] for line in changes] == ["text-only control"]
    mixed = render_tables(read_results(_mixed(synthetic).study), reported)
    assert not [line for line in _changes(mixed[f"{ABLATION}.csv"]) if line["value"]]
    assert "No change: scored on another split than the row" in mixed[f"{ABLATION}.md"]


def _changes(text: str) -> list[dict[str, str]]:
    lines = csv.DictReader(io.StringIO(text))
    return [line for line in lines if line["column"] == "measured_change"]


def test_column_of_the_replication_table_tells_the_split(
    synthetic: SyntheticStudy, reported: ReportedNumbers
) -> None:
    row = {"table": "scienceqa_test", "row": "ADEM-VL, LLaMA-7B"}
    synthetic.raw["runs"]["adem"]["reported"] = [row]
    mixed = _mixed(synthetic)
    mini = render_tables(read_results(mixed.study), reported)["replication.md"]
    assert "here" not in mini  # a mini run is no retraining of the paper's
    mixed.at_paper_scale()
    files = render_tables(read_results(mixed.study), reported)
    assert "here (val)" in files["replication.md"]


@pytest.mark.parametrize("second", ["same", " same", "same ", "sa\u200bme", "ｓａｍｅ"])
def test_runs_of_a_task_whose_labels_look_alike_get_their_keys(
    tmp_path: Path, reported: ReportedNumbers, second: str
) -> None:
    study = answered_study(tmp_path)
    for run, label in (("adem", "same"), ("text_only", second)):
        study.raw["runs"][run]["label"] = label
    results = read_results(study.study)
    labels = [run.label for run in results.of_task("scienceqa")]
    assert labels == ["same (adem)", f"{second} (text_only)"]
    assert "same (adem) minus " in main_table(results, reported)


def test_page_tells_runs_with_one_label_apart(tmp_path: Path) -> None:
    study = answered_study(tmp_path)
    for run in ("adem", "text_only"):
        study.raw["runs"][run]["label"] = "same"
    page = make_page(study).read_text(encoding="utf-8")
    assert '<span class="run">same (adem)</span>' in page
    assert "Points on questions with an image, minus same (text_only)" in page


def test_one_label_for_two_tasks_stays_as_it_is(finished: SyntheticStudy) -> None:
    runs = read_results(finished.study).runs
    assert [run.label for run in runs] == ["ADEM-VL", "text-only control", "ADEM-VL"]


def test_columns_that_a_study_can_explain_are_those_of_its_tables() -> None:
    columns = [column for task in all_facts() for column in task_columns(task)]
    assert tuple(column.key for column in columns) == NOTED_COLUMNS
