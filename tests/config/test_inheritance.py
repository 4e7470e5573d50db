"""Protects how runs inherit settings, and that a run fits the adapter that it takes over."""

from typing import Any

import pytest

from ademvl.config.settings_files import run_to_plain
from ademvl.config.study import load_study
from ademvl.errors import SettingsError


def study(**runs: Any) -> dict[str, Any]:
    defaults = {"dataset": "questions", "method": {"gamma": 0.2}}
    datasets = {"questions": {"source": "scienceqa"}}
    trained = {"label": "as its authors", "seeds": [0, 1], "optimization": {"epochs": 5.0}}
    runs = {"trained_run": trained, **runs}
    return {"study": "test", "datasets": datasets, "defaults": defaults, "runs": runs}


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
        ("again", "runs.again.adapter: again takes the adapter of again itself"),
    ],
)
def test_adapter_of_no_training_is_refused(adapter: str, expected: str) -> None:
    message = refusal(study(matched={"adapter": "trained_run"}, again={"adapter": adapter}))
    assert expected in message
    assert "one of the runs trained_run" in message
