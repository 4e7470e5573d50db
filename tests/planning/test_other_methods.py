"""Protects that the planner answers for any method wherever it is asked."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest
import torch

from ademvl.config.run import FeatureSettings
from ademvl.config.setting import setting, settings_class
from ademvl.config.study import load_study
from ademvl.errors import SettingsError
from ademvl.machine.free_memory import FreeMemory
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.planning import fit
from ademvl.planning.costs import costs_of
from ademvl.planning.cpu_time import training_seconds
from ademvl.planning.devices import gpu_by_name
from ademvl.planning.fit import RunMemory, check_fits, model_sizes, settings_that_fit, with_changes
from ademvl.planning.out_of_memory import training_advice
from ademvl.planning.plans import Target
from ademvl.planning.render import render_plan
from ademvl.planning.rows import Row
from ademvl.planning.study_plan import plan_study, to_plain
from ademvl.probing import probe
from ademvl.probing.probe import probe_run
from ademvl.storage.files import dump_json
from tests.conftest import PROJECT_ROOT
from tests.planning.methods_of_tests import Attending, Fourth, FourthMethod
from tests.tiny import make_run

MIB, GIB = 2**20, 2**30
METHODS = [MemvpSettings(), LavinSettings(cls_blocks=(0, 2)), Fourth(), Attending()]
IN_TOWER = ("memvp", "lavin")  # those that train adapters inside the tower
ROWS = (Row(width=40, scored=6, has_image=True), Row(width=60, scored=6, has_image=False))
any_method = pytest.mark.parametrize("settings", METHODS, ids=lambda settings: settings.name)


@pytest.fixture(scope="module")
def mini():
    return load_study(PROJECT_ROOT / "config.yaml")


def _run_of(mini, settings, **features):
    run = dataclasses.replace(mini.runs[0], method=settings)
    return dataclasses.replace(run, features=dataclasses.replace(run.features, **features))


@pytest.fixture(scope="module")
def plan(mini):
    runs = [
        dataclasses.replace(_run_of(mini, settings), name=settings.name, seed=seed)
        for settings in METHODS
        for seed in (0, 1, 2)
    ]
    return plan_study(dataclasses.replace(mini, runs=(*mini.runs, *runs)), Target())


def test_study_is_planned_with_all_its_methods(plan):
    planned = {run.name: run for run in plan.runs}
    assert not plan.unknown
    for settings in METHODS:
        run = planned[settings.name]
        assert run.seeds == 3
        assert run.num_trained > 0
        assert 0 < run.evaluation_memory < 2 * GIB
        assert run.flops.training_per_item > 0
        assert run.other_checkpointing < run.memory.total
        assert run.memory.total < 2 * GIB
    assert "key_table" in planned["memvp"].trained


def test_its_plan_is_shown_and_printed_as_json(plan):
    text = render_plan(plan)
    assert all(settings.name in text for settings in METHODS)
    described = json.loads(dump_json(to_plain(plan)))
    assert {"memvp", "fourth", "attending"} <= {run["name"] for run in described["runs"]}


@any_method
def test_tower_adapters_count_where_they_are_trained(settings, mini):
    online, cached = (model_sizes(_run_of(mini, settings, mode=m)) for m in ("online", "cached"))
    assert ("clip_adapters" in costs_of(online).trained()) == (settings.name in IN_TOWER)
    assert ("clip_adapters" in costs_of(cached).trained()) is False
    assert (online.trained > cached.trained) == (settings.name in IN_TOWER)


@any_method
def test_refusal_names_settings_that_fit(settings, mini, monkeypatch):
    monkeypatch.setattr(fit, "MAX_ALTERNATIVES", 9)  # all of them
    run = _run_of(mini, settings, mode="online")
    run = with_changes(run, {"optimization.per_device_batch_size": 16})
    whole = RunMemory(run, "cpu", ROWS).predict().total
    available = int(whole * 0.8)
    with pytest.raises(SettingsError) as caught:
        check_fits(run, FreeMemory("cpu", "this machine", available), ROWS)
    assert "--ignore-memory" in str(caught.value)
    alternatives = settings_that_fit(run, whole - 1, device="cpu", rows=ROWS)
    assert {"features.mode": "cached"} in [each.changes for each in alternatives]
    notes = {each.note for each in alternatives if each.changes == {"features.mode": "cached"}}
    changes_the_method = "another method: no adapters inside the tower" in notes
    assert changes_the_method == (settings.name in IN_TOWER)
    for each in alternatives:
        changed = with_changes(run, each.changes)
        assert RunMemory(changed, "cpu", ROWS).predict().total == each.bytes < whole


@any_method
def test_training_that_ran_out_is_advised(settings, mini):
    advice = training_advice(_run_of(mini, settings), torch.device("cpu"))
    assert "out of memory on cpu" in advice


def test_too_large_run_is_planned_with_settings_that_fit():
    study = load_study(PROJECT_ROOT / "workflow/studies/paper-7b.yaml")
    run = dataclasses.replace(study.runs[0], method=MemvpSettings())
    one = dataclasses.replace(study, runs=(run,))
    text = render_plan(plan_study(one, Target(gpu=gpu_by_name("V100-16GB"))))
    assert "3,879,040" in text  # as published for LLaMA-7B (arXiv 2405.05615)
    assert "DOES NOT FIT into 15.8 GiB" in text
    assert "backbones.quantization: int4" in text


@any_method
def test_speed_is_probed_with_few_layers_where_all_are_too_many(settings, tmp_path, monkeypatch):
    run = make_run(tmp_path, method=settings)
    shape = model_sizes(run)
    deep = dataclasses.replace(shape, llm=dataclasses.replace(shape.llm, layers=12))
    monkeypatch.setattr(probe, "model_sizes", lambda run: deep)
    rate = probe_run(run, ROWS, budget_seconds=0.1)
    assert rate.flops_per_second > 0
    # memvp, lavin: all alike; fourth: 0, then 1, 5, 9, then the rest; attending: 0, then the rest
    counts = {"memvp": (1, 3), "lavin": (1, 3), "fourth": (3, 5, 5), "attending": (2, 4)}
    assert rate.layers == counts[settings.name]


def test_time_on_the_processor_is_known(tmp_path):
    pytest.importorskip("easy_vqa", reason="the package easy-vqa is not installed")
    from ademvl.tasks.layout import make_dataset

    study = load_study(PROJECT_ROOT / "workflow/studies/smoke.yaml")
    make_dataset(tmp_path / "manifest.json", study.settings.datasets["easy_vqa_smoke"])
    run = dataclasses.replace(
        study.runs[0], data_dir=str(tmp_path / "scienceqa"), method=MemvpSettings()
    )
    assert training_seconds(run, 1e9) > 0


def test_settings_that_do_not_fit_the_models_are_told(mini):
    run = _run_of(mini, MemvpSettings(table_rows=3))
    with pytest.raises(SettingsError, match=r"method\.table_rows: 3, expected at least the 64"):
        plan_study(dataclasses.replace(mini, runs=(run,)), Target())


class _Peeking(FourthMethod):
    """Looks at values, which nothing measured has."""

    def open(self, features, has_image, *, dtype, dropout_seeds):
        if features is not None and features.sum().item() > 0:
            features = -features
        return super().open(features, has_image, dtype=dtype, dropout_seeds=dropout_seeds)


@settings_class
class Peeking(Fourth):
    name: Literal["peeking"] = setting(changes="results", default="peeking")


def test_method_that_cannot_be_measured_is_not_planned_but_trained(mini, monkeypatch, caplog):
    from ademvl.methods import registry

    monkeypatch.setitem(registry._CLASSES, Peeking, _Peeking)
    run = _run_of(mini, Peeking())
    plan = plan_study(dataclasses.replace(mini, runs=(run,)), Target())
    assert "the costs of peeking are not known" in plan.unknown[run.name]
    check_fits(run, FreeMemory("cpu", "this machine", 1), ROWS)
    assert "memory is not predicted" in caplog.text
    assert "out of memory" in training_advice(run, torch.device("cpu"))


def test_features_of_other_states_take_their_own_place(tmp_path):
    # two blocks' [cls] of 16 in fp32, for the tiny tower
    from ademvl.planning.schedule import feature_cache_bytes

    features = FeatureSettings(mode="cached", precision="fp32", cache_dir=str(tmp_path))
    run = make_run(Path(tmp_path), method=Attending(), features=features)
    assert feature_cache_bytes(run, model_sizes(run), 10) == 10 * 2 * 16 * 4
