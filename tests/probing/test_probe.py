"""Protects the probe: it times real steps of a run's shapes, and draws all layers from a few."""

import dataclasses

import pytest
import torch

from ademvl.config.dataset import DatasetSettings
from ademvl.config.study import load_study
from ademvl.machine.free_memory import FreeMemory
from ademvl.planning.rows import Row
from ademvl.planning.schedule import Rate
from ademvl.planning.workload import workload_of
from ademvl.probing import probe
from ademvl.probing.probe import probe_run
from tests.conftest import PROJECT_ROOT
from tests.tiny import make_run

ROWS = (Row(width=40, scored=6, has_image=True), Row(width=60, scored=6, has_image=False))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_rate_is_measured_without_reading_weights(tmp_path, mode):
    run = make_run(tmp_path)
    run = dataclasses.replace(run, features=dataclasses.replace(run.features, mode=mode))
    rows = workload_of(run, DatasetSettings(source="scienceqa")).training.rows
    (tmp_path / "llm" / "model.safetensors").unlink()
    rate = probe_run(run, rows, budget_seconds=0.2)
    assert isinstance(rate, Rate)
    assert rate.flops_per_second > 0
    assert rate.layers == (2,)
    assert rate.passes >= 2


def test_gpu_is_taken_by_its_lock(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("ADEMVL_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(probe, "probe_run", lambda *arguments, **keywords: None)
    with caplog.at_level("INFO"):
        probe.probe_study(load_study(PROJECT_ROOT / "config.yaml"))
    assert "on GPU 3" in caplog.text


def test_time_of_all_layers_is_drawn_from_two_numbers_of_layers():
    # 1 s a layer and half a second for the rest.
    parts = probe._few_layers([tuple(range(32))])
    assert [part.numbers for part in parts] == [(0,), (0, 1, 2)]
    assert probe._extrapolate(parts, [1.5, 3.5]) == pytest.approx(32.5)
    assert probe._extrapolate(parts[:1], [2.0]) == 2.0


def test_each_kind_of_layers_has_its_own_part_of_the_time():
    # Every fourth layer takes 3 s, the others 1 s, the rest half a second.
    touched = tuple(range(0, 32, 4))
    plain = tuple(number for number in range(32) if number % 4)
    parts = probe._few_layers([touched, plain])
    assert [part.numbers for part in parts] == [(0, 1), (0, 1, 4, 8), (0, 1, 2, 3)]
    seconds = [0.5 + sum(3.0 if n in touched else 1.0 for n in part.numbers) for part in parts]
    assert probe._extrapolate(parts, seconds) == pytest.approx(0.5 + 8 * 3 + 24)


def test_deep_model_is_measured_with_few_layers(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    shape = probe.model_sizes(run)
    deep = _with_layers(shape, 40)
    monkeypatch.setattr(probe, "model_sizes", lambda run: deep)
    rate = probe_run(run, ROWS, budget_seconds=0.2)
    assert rate.layers == probe.FEW_LAYERS


def test_model_that_does_not_fit_at_all_is_left_out(tmp_path, monkeypatch, caplog):
    run = make_run(tmp_path)
    monkeypatch.setattr(
        probe, "free_memory", lambda device: FreeMemory("cpu", "this machine", 1 << 20)
    )
    assert probe_run(run, ROWS, budget_seconds=0.2) is None
    assert "not probed" in caplog.text


def _with_layers(sizes, layers):
    return dataclasses.replace(sizes, llm=dataclasses.replace(sizes.llm, layers=layers))
