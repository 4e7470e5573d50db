"""Protects the choice of devices: one GPU a process, and the CPU where there is none."""

import pytest
import torch

from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError
from ademvl.machine.devices import compute_device, usable_gpus

LARGE = BackboneSettings(llm="folder", tower="ViT-L-14-quickgelu", tower_weights="openai")


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: request.param > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: request.param)


@pytest.mark.parametrize("gpus", [0], indirect=True)
def test_without_gpu_the_cpu_is_used(gpus: None) -> None:
    assert usable_gpus(LARGE) == 0
    assert compute_device(LARGE, local_rank=1, local_processes=2) == torch.device("cpu")


@pytest.mark.parametrize("gpus", [4], indirect=True)
def test_each_process_has_a_gpu_of_its_own(gpus: None) -> None:
    assert usable_gpus(LARGE) == 4
    devices = [compute_device(LARGE, local_rank=r, local_processes=4) for r in range(4)]
    assert devices == [torch.device("cuda", r) for r in range(4)]


@pytest.mark.parametrize("gpus", [4], indirect=True)
def test_mini_language_model_stays_on_the_cpu(gpus: None) -> None:
    assert usable_gpus(BackboneSettings()) == 0
    assert compute_device(BackboneSettings()) == torch.device("cpu")


@pytest.mark.parametrize("gpus", [1], indirect=True)
def test_process_that_sees_one_gpu_alone_takes_it(gpus: None) -> None:
    assert compute_device(LARGE, local_rank=3, local_processes=4) == torch.device("cuda", 0)


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_fewer_gpus_than_processes_is_an_error(gpus: None) -> None:
    with pytest.raises(SettingsError, match="start at most 2"):
        compute_device(LARGE, local_rank=0, local_processes=4)
