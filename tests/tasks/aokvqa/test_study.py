"""Protects task aokvqa end to end, as a study: laid out, trained, evaluated, compared, shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ademvl.bundle.archive import open_results
from ademvl.bundle.difference import compare_results
from ademvl.bundle.difference_text import render
from ademvl.bundle.records import Results
from ademvl.cli import main
from ademvl.config.settings_files import study_to_json, write_settings
from ademvl.config.study import Study, load_study
from ademvl.errors import SettingsError
from ademvl.evaluation.comparison.compare import compare
from ademvl.evaluation.others_formats import write_predictions
from ademvl.reporting.page.browsing import write_browsers
from ademvl.reporting.page.thumbnails import Thumbnails
from ademvl.reporting.reported import load_reported
from ademvl.reporting.results import read_results
from ademvl.reporting.tables.build import render_tables
from ademvl.workflow.plan import WorkflowPlan
from tests import tiny
from tests.tasks.finished_study import finish_study


def study_of(copy: Path) -> dict[str, Any]:
    """Keys of a study on a copy."""
    return {
        "study": "aokvqa_smoke",
        "datasets": {"aokvqa": {"source": "aokvqa", "existing": str(copy), "subset": True}},
        "defaults": {
            "task": "aokvqa",
            "dataset": "aokvqa",
            "evaluation": {"split": "val", "batch_size": 4},
        },
        "runs": {"adem": {}, "text_only": {"images": "withheld"}},
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, all of whose runs are done."""
    folder = tmp_path_factory.mktemp("aokvqa")
    return finish_study(folder, study_of(tiny.make_aokvqa(folder / "copy")))


def test_scores_are_the_share_of_right_choices(study: Study) -> None:
    folder = study.run_dir(study.runs[0])
    lines = (folder / "predictions/aokvqa.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == ["val-0", "val-1", "val-2", "val-3"]
    right = sum(row["predicted_index"] == place for place, row in enumerate(rows))
    scores = json.loads((folder / "scores/aokvqa.json").read_text())["columns"]["MC"]
    assert (scores["n"], scores["correct"]) == (4, right)
    assert scores["percent"] == pytest.approx(25 * right)


def test_runs_are_compared_and_their_answers_in_the_official_form_too(
    study: Study, tmp_path: Path
) -> None:
    first, second = (study.run_dir(run) for run in study.runs)
    found = compare(first, second)
    assert list(found.scores) == ["MC"]
    assert found.main == "MC"
    assert write_predictions(first, tmp_path / "predictions_val-mc.json") == 4
    data = Path(study.runs[0].data_dir)
    again = compare(tmp_path / "predictions_val-mc.json", first, data_dir=data, split="val")
    assert again.differences["MC"].value == 0


def test_tables_and_page_show_it(study: Study, tmp_path: Path) -> None:
    results = read_results(study)
    tables = render_tables(results, load_reported())
    assert "| adem" in tables["aokvqa.md"]
    assert any(path.endswith("tables/aokvqa.md") for path in WorkflowPlan(study).tables())
    (browser,) = write_browsers(results, tmp_path, Thumbnails(tmp_path / "kept", tmp_path))
    assert (browser.num_items, browser.runs) == (4, ("adem", "text_only"))


def test_difference_of_two_results_prints_its_score(study: Study) -> None:
    write_settings(study.results_dir / "study.yaml", study_to_json(study))
    results = open_results(study.results_dir)
    name = "runs/adem/seed0/scores/aokvqa.json"
    scores = json.loads(results.files[name])
    percent, scores["columns"]["MC"]["percent"] = scores["columns"]["MC"]["percent"], 12.5
    other = replace(results, files={**results.files, name: json.dumps(scores).encode()})
    text = render(compare_results(Results("a", results), Results("b", other)))
    assert f"\n  MC: {percent:.2f} and 12.50\n" in text


def test_plan_reads_the_data(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(study.results_dir / "../../study.yaml")]) == 0
    assert "aokvqa" in capsys.readouterr().out


def test_test_split_is_refused_when_the_study_is_read(tmp_path: Path) -> None:
    raw = study_of(tmp_path)
    raw["defaults"]["evaluation"]["split"] = "test"
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(
        SettingsError, match="right answers of task aokvqa are public for val alone"
    ):
        load_study(path)
