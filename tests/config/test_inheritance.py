"""Protects how runs inherit settings, and that a run fits the adapter that it takes over."""

from pathlib import Path
from typing import Any

import pytest

from ademvl.config.settings_files import (
    read_run,
    run_to_json,
    run_to_plain,
    study_to_json,
    write_settings,
)
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.methods.adem.settings import AdemSettings
from tests.config.methods_of_tests import Blind


def study(**runs: Any) -> dict[str, Any]:
    defaults = {"dataset": "questions", "method": {"gamma": 0.2}}
    datasets = {"questions": {"source": "scienceqa"}}
    trained = {"label": "as its authors", "seeds": [0, 1], "optimization": {"epochs": 5.0}}
    runs = {"trained_run": trained, **runs}
    return {"study": "test", "datasets": datasets, "defaults": defaults, "runs": runs}


@pytest.fixture(autouse=True)
def with_another_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ademvl.config.methods_by_name._registered", {"blind": Blind})


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_study(raw)
    return str(caught.value)


def test_run_that_takes_an_adapter_starts_from_the_settings_of_its_run() -> None:
    matched = {"adapter": "trained_run", "prompts": {"evaluation": "reference"}}
    loaded = load_study(study(matched=matched))
    runs = {(run.name, run.seed): run for run in loaded.runs}
    assert sorted(runs) == [(name, seed) for name in ("matched", "trained_run") for seed in (0, 1)]
    taken, trained = runs["matched", 1], runs["trained_run", 1]
    assert (taken.optimization, taken.method) == (trained.optimization, trained.method)
    assert taken.prompts.evaluation == "reference"
    assert loaded.label("matched") == "matched"


def test_key_is_absent_where_a_run_trains_its_own() -> None:
    runs = load_study(study(matched={"adapter": "trained_run"})).runs
    assert {run.name: run_to_plain(run).get("adapter") for run in runs} == {
        "trained_run": None,
        "matched": "trained_run",
    }


def test_changing_what_the_adapter_depends_on_is_refused() -> None:
    matched = {
        "adapter": "trained_run",
        "method": {"gamma": 0.0},
        "evaluation": {"split": "val"},
        "seeds": [1, 2],
    }
    message = refusal(study(matched=matched))
    assert "2 found" in message
    assert "runs.matched.method.gamma: 0.0, but 0.2 in run trained_run" in message
    assert "runs.matched.seeds: [2] are no seeds of run trained_run" in message


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ("nosuch", "runs.again.adapter: 'nosuch' is no run of the study"),
        ("matched", "runs.again.adapter: matched takes the adapter of trained_run itself"),
        ("again", "runs.again.adapter: 'again' is the run itself"),
    ],
)
def test_adapter_of_no_training_is_refused(adapter: str, expected: str) -> None:
    message = refusal(study(matched={"adapter": "trained_run"}, again={"adapter": adapter}))
    assert expected in message
    assert "one of the runs trained_run" in message


def test_run_alone_that_names_itself_is_given_no_other() -> None:
    raw = study() | {"runs": {"alone": {"adapter": "alone"}}}
    assert refusal(raw).endswith("Give `trained`, `released`, `pretrained`, `predictions`.")


@pytest.mark.parametrize("adapter", [["trained_run"], 3, None])
def test_adapter_that_is_no_name_is_refused_as_such(adapter: Any) -> None:
    message = refusal(study(again={"adapter": adapter}))
    assert f"runs.again.adapter: {adapter!r}, expected string" in message


def test_run_of_the_defaults_whose_adapter_all_would_take_is_refused() -> None:
    raw = study(again={})
    raw["defaults"]["adapter"] = "trained_run"
    message = refusal(raw)
    assert "defaults.adapter: 'trained_run', but no run can take it from itself" in message
    assert "or in a run one of the runs trained_run, again." in message


def methods(**runs: Any) -> dict[str, Any]:
    defaults = {"dataset": "questions", "method": {"gamma": 0.2}}
    raw = study(**runs) | {"defaults": defaults}
    return {run.name: run.method for run in load_study(raw).runs}


def test_run_with_another_method_starts_from_that_methods_defaults() -> None:
    found = methods(
        other={"method": {"name": "blind"}},
        wide={"method": {"name": "blind", "width": 3}},
        same={"method": {"name": "adem", "beta": 1.0}},
    )
    assert (found["other"], found["wide"]) == (Blind(), Blind(width=3))
    assert found["same"] == AdemSettings(gamma=0.2, beta=1.0)


def test_run_without_a_name_takes_the_method_of_the_defaults() -> None:
    raw = study(wide={"method": {"width": 3}}, own={"method": {"name": "adem", "gamma": 0.3}})
    raw["defaults"]["method"] = {"name": "blind", "chunk": 2}
    found = {run.name: run.method for run in load_study(raw).runs}
    assert found["wide"] == Blind(width=3, chunk=2)
    assert found["own"] == AdemSettings(gamma=0.3)
    assert found["trained_run"] == Blind(chunk=2)


def test_run_that_takes_an_adapter_has_its_method() -> None:
    blind = {"method": {"name": "blind", "width": 3}}
    found = methods(blind=blind, again={"adapter": "blind", "method": {"temperature": 2.0}})
    assert found["again"] == Blind(width=3, temperature=2.0)
    message = refusal(study(blind=blind, again={"adapter": "blind", "method": {"name": "adem"}}))
    assert "runs.again.method.name: 'adem', but 'blind' in run blind" in message


def test_settings_without_influence_on_the_adapter_may_be_changed() -> None:
    changes = {
        "method": {"drop_in_evaluation": False},
        "optimization": {"log_interval_steps": 3, "per_device_batch_size": 8},
        "evaluation": {"batch_size": 2},
    }
    loaded = load_study(study(matched={"adapter": "trained_run", **changes}))
    assert loaded.settings.runs["matched"].method.drop_in_evaluation is False


def test_method_of_a_run_survives_writing_and_reading(tmp_path: Path) -> None:
    loaded = load_study(study(other={"method": {"name": "blind", "width": 3}}))
    write_settings(tmp_path / "study.yaml", study_to_json(loaded))
    assert load_study(tmp_path / "study.yaml").runs == loaded.runs
    run = next(run for run in loaded.runs if run.name == "other")
    write_settings(tmp_path / "run.yaml", run_to_json(run))
    assert read_run(tmp_path) == run
