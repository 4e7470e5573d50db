"""Protects what a study shows of runs on instructions: effects and answers, as of others."""

import json
from pathlib import Path

import pytest

from ademvl.config.factors import one_factor_runs
from ademvl.config.study import Study
from ademvl.reporting.effects import effects_table, measure_effects
from ademvl.reporting.page.browsing import write_browsers
from ademvl.reporting.page.overview import runs_by_task
from ademvl.reporting.page.thumbnails import Thumbnails
from ademvl.reporting.results import read_results
from tests import tiny
from tests.tasks.finished_study import finish_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two runs that differ in one setting, done."""
    folder = tmp_path_factory.mktemp("instructions")
    lavin = tiny.make_instructions(folder / "copies" / "lavin")
    mme = tiny.make_mme(folder / "copies" / "mme")
    (mme / "color").rename(mme / "existence")  # by which a copy is known
    raw = {
        "study": "instructions_smoke",
        "datasets": {
            "lavin": {"source": "lavin_instruct", "existing": str(lavin), "subset": True},
            "mme": {"source": "mme", "existing": str(mme), "subset": True},
        },
        "defaults": {
            "task": "instruction",
            "dataset": "lavin",
            "evaluation_dataset": "mme",
            "evaluation": {"batch_size": 4, "max_new_tokens": 2},
        },
        "runs": {"base": {}, "strong": {"method": {"alpha": 5.0}}},
        "base_runs": ["base"],
    }
    return finish_study(folder, raw)


def test_a_setting_is_worth_points_of_mme(study: Study) -> None:
    results = read_results(study)
    (effect,) = measure_effects(results, one_factor_runs(study))
    assert effect.difference is not None
    assert effect.difference.n == 6  # images
    assert "method.alpha" in effects_table([effect])


def test_answers_are_browsed_as_yes_and_no(study: Study, tmp_path: Path) -> None:
    results = read_results(study)
    (browser,) = write_browsers(results, tmp_path, Thumbnails(tmp_path / "kept", tmp_path))
    assert (browser.num_items, browser.runs, browser.notes) == (12, ("base", "strong"), ())
    (shown,) = browser.filters
    assert [value for value, _ in shown.options] == ["existence", "landmark"]
    script = (tmp_path / browser.script).read_text(encoding="ascii")
    data = json.loads(json.loads(script[script.index("JSON.parse(") + 11 : script.rindex("))")]))
    (first, *_) = data["items"]
    assert (first["choices"], first["answer"], first["about"]) == (["Yes", "No"], 0, "existence")
    assert len(first["chosen"]) == 2
    assert first["prompts"][0][0].startswith("Instruction: ")


def test_overview_has_the_benchmarks_sums(study: Study) -> None:
    (runs,) = runs_by_task(read_results(study))
    assert (runs.title, runs.columns) == ("Instructions", ("MME-P", "MME-C"))
