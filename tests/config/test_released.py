"""Protects runs of a study that evaluate a released adapter."""

from types import SimpleNamespace

import pytest

from ademvl.config import methods_by_name
from ademvl.config.methods_by_name import register_method
from ademvl.config.released import RELEASED_METHODS
from ademvl.config.study import load_study
from ademvl.data.acquisition.plan import needed_sources
from ademvl.data.acquisition.registry import load_registry
from ademvl.errors import SettingsError
from ademvl.released.forms import FORMS
from ademvl.workflow.plan import WorkflowPlan
from tests.config.methods_of_tests import Blind


def test_methods_that_a_study_may_name_are_those_that_can_be_read():
    assert tuple(FORMS) == RELEASED_METHODS


@pytest.fixture
def raw():
    return {
        "study": "paper_7b",
        "datasets": {"scienceqa": {"source": "scienceqa"}},
        "backbones": {"llama_7b": {}, "clip_vit_l14": {"file": "ViT-L-14.pt"}},
        "defaults": {
            "dataset": "scienceqa",
            "backbones": {
                "llm": "llama_7b",
                "tower": "ViT-L-14-quickgelu",
                "tower_weights": "clip_vit_l14",
            },
        },
        "runs": {
            "own": {"seeds": [0, 1]},
            "theirs": {"adapter": "released", "released_from": "adem_released_scienceqa"},
        },
    }


def theirs(**wildcards):
    return SimpleNamespace(run="theirs", seed=0, **wildcards)


def test_the_source_is_fetched_and_imported_instead_of_trained(raw):
    study = load_study(raw)
    assert "adem_released_scienceqa" in needed_sources(study, load_registry())
    plan = WorkflowPlan(study)
    folder = "results/shared/downloads/adem_released_scienceqa"
    assert plan.run(theirs()).released_from == folder
    assert plan.run_adapter(theirs()) == [f"{folder}/complete.json"]
    assert (plan.resources.training_gpus(theirs()), plan.resources.gpus(theirs())) == (0, 1)


def test_a_local_file_is_an_input_and_fetches_nothing(raw, tmp_path):
    file = tmp_path / "checkpoint.pth"
    file.touch()
    raw["runs"]["theirs"]["released_from"] = str(file)
    study = load_study(raw)
    assert "adem_released_scienceqa" not in needed_sources(study, load_registry())
    assert WorkflowPlan(study).run_adapter(theirs()) == [str(file)]


def test_another_run_may_evaluate_it_in_another_way(raw):
    raw["runs"]["matched"] = {"adapter": "theirs", "prompts": {"evaluation": "matched"}}
    study = load_study(raw)
    matched = next(run for run in study.runs if run.name == "matched")
    assert matched.released_from == "results/shared/downloads/adem_released_scienceqa"
    plan = WorkflowPlan(study)
    assert plan.run_adapter(SimpleNamespace(run="matched", seed=0)) == [
        "results/paper_7b/runs/theirs/seed0/adapter/adapter.json"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"released_from": ""}, "released_from: empty"),
        ({"seeds": [0, 1]}, r"seeds: \[0, 1\], but nothing is trained"),
        (
            {"method": {"name": "blind"}},
            r"runs\.theirs\.method\.name: 'blind', of which no released adapter is read",
        ),
        ({"adapter": "trained"}, "but the run trains an adapter"),
    ],
)
def test_contradictions_are_refused(raw, changes, message, monkeypatch):
    monkeypatch.setattr(methods_by_name, "_registered", {})
    register_method(Blind)
    raw["runs"]["theirs"] |= changes
    with pytest.raises(SettingsError, match=message):
        load_study(raw)


@pytest.mark.parametrize(
    ("released_from", "message"),
    [("adem_relased_scienceqa", "is no source"), ("somewhere/a.pth", "no such file")],
)
def test_unknown_sources_and_missing_files_are_refused(raw, released_from, message):
    raw["runs"]["theirs"]["released_from"] = released_from
    with pytest.raises(SettingsError, match=message):
        needed_sources(load_study(raw), load_registry())
