"""Protects resumable states: whole or not used, two kept, never those of other settings."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from ademvl.config.optimization import OptimizationSettings
from ademvl.errors import DataError
from ademvl.training.optimizer import build_optimizer, set_lr
from ademvl.training.state import StateStore, TrainingState, capture, restore
from tests.tiny import method_of

IDENTITY = {"settings": {"seed": 0, "optimization": {"base_lr": 0.1}}, "weights": {"llm": "a"}}


def _state(step: int) -> TrainingState:
    return TrainingState(step, {"parameter/w": torch.full((3,), float(step))}, {"rows": [[step]]})


def _store(tmp_path: Path, *, steps: tuple[int, ...] = ()) -> StateStore:
    store = StateStore(tmp_path / "state", IDENTITY)
    for step in steps:
        store.save(_state(step))
    return store


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state").iterdir())


def test_without_a_state_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert _store(tmp_path).load_newest() is None


def test_newest_of_two_kept_is_loaded(tmp_path: Path) -> None:
    state = _store(tmp_path, steps=(1, 2, 10)).load_newest()
    assert state is not None
    assert state.step == 10
    assert state.record == {"rows": [[10]]}
    assert torch.equal(state.tensors["parameter/w"], torch.full((3,), 10.0))
    assert _files(tmp_path) == [
        f"step-{step:08d}.{suffix}" for step in (2, 10) for suffix in ("json", "safetensors")
    ]


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted"])
def test_damaged_newest_state_falls_back(
    tmp_path: Path, suffix: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = _store(tmp_path, steps=(1, 2))
    path = tmp_path / "state" / f"step-00000002.{suffix}"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-5])
    elif damage == "flipped":
        content[-9] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with caplog.at_level(logging.WARNING):
        state = store.load_newest()
    assert state is not None
    assert state.step == 1
    gone_quietly = damage == "deleted" and suffix == "json"
    assert gone_quietly or "step-00000002" in caplog.text


def test_damaged_later_state_is_removed_when_the_run_goes_on(tmp_path: Path) -> None:
    store = _store(tmp_path, steps=(1, 5))
    (tmp_path / "state" / "step-00000005.safetensors").write_bytes(b"")
    store.save(_state(3))
    assert {name.split(".")[0] for name in _files(tmp_path)} == {"step-00000001", "step-00000003"}


def test_state_of_other_settings_is_not_used_and_the_message_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _store(tmp_path, steps=(1,))
    changed = {**IDENTITY, "settings": {"seed": 0, "optimization": {"base_lr": 0.2}}}
    with caplog.at_level(logging.WARNING):
        assert StateStore(tmp_path / "state", changed).load_newest() is None
    assert "settings.optimization.base_lr: 0.1 -> 0.2" in caplog.text


def test_leftovers_of_a_killed_write_are_ignored_and_removed(tmp_path: Path) -> None:
    store = _store(tmp_path, steps=(1,))
    (tmp_path / "state" / "step-00000002.safetensors").write_bytes(b"whole, but without its json")
    (tmp_path / "state" / ".step-00000003.safetensors.x.tmp").write_bytes(b"half")
    (tmp_path / "state" / ".tmpDL89lf").write_bytes(b"half")  # as safetensors names its own
    state = store.load_newest()
    assert state is not None
    assert state.step == 1
    store.save(_state(4))
    assert {name.split(".")[0] for name in _files(tmp_path)} == {"step-00000001", "step-00000004"}


def test_clear_removes_the_folder(tmp_path: Path) -> None:
    _store(tmp_path, steps=(1, 2)).clear()
    assert not (tmp_path / "state").exists()


def _model() -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    parameters = {
        "matrix": nn.Parameter(torch.randn(3, 2, generator=generator)),
        "unused": nn.Parameter(torch.randn(2, 2, generator=generator)),
        "vector": nn.Parameter(torch.randn(3, generator=generator)),
    }
    return parameters, build_optimizer(
        method_of(nn.ParameterDict(parameters)), OptimizationSettings()
    )


def _steps(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, steps: range
) -> None:
    for step in steps:
        set_lr(optimizer, 0.01 * (step + 1))
        for name in ("matrix", "vector"):
            parameters[name].grad = torch.cos(parameters[name].detach() * (step + 1))
        optimizer.step()


def test_restored_optimizer_goes_on_bit_identically(tmp_path: Path) -> None:
    parameters, optimizer = _model()
    _steps(parameters, optimizer, range(3))
    store = StateStore(tmp_path / "state", IDENTITY)
    store.save(TrainingState(3, capture(parameters, optimizer), {}))
    _steps(parameters, optimizer, range(3, 6))

    resumed, resumed_optimizer = _model()
    state = store.load_newest()
    assert state is not None
    restore(state.tensors, resumed, resumed_optimizer)
    _steps(resumed, resumed_optimizer, range(3, 6))

    for name, parameter in parameters.items():
        assert torch.equal(parameter, resumed[name]), name


def test_state_of_another_model_is_refused() -> None:
    parameters, optimizer = _model()
    tensors = capture(parameters, optimizer)
    del tensors["parameter/vector"]
    with pytest.raises(DataError, match="vector"):
        restore(tensors, parameters, optimizer)
