"""Protects that devices which share the passes of a step train the same, to the last bit."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from ademvl.config.run import FeatureSettings, RunSettings
from ademvl.training.loop import Trainer
from ademvl.training.membership import Membership
from ademvl.training.processes import Processes
from ademvl.training.run import build_trainer, training_rows
from tests import tiny
from tests.training import beyond

STEPS = 6


class Together(Processes):
    """One of several threads that stand for processes; adds up in the order of ranks."""

    def __init__(self, rank: int, tensors: list[torch.Tensor | None], barrier: threading.Barrier):
        super().__init__(Membership(rank, len(tensors), rank, len(tensors)))
        self._tensors, self._barrier = tensors, barrier

    def add_up(self, tensor: torch.Tensor) -> None:
        self._tensors[self.rank] = tensor.clone()
        self._barrier.wait()
        tensor.copy_(torch.stack(self._tensors).sum(dim=0))
        self._barrier.wait()


def trainer_of(run: RunSettings, processes: Processes) -> Trainer:
    """The trainer of one device, with models of its own."""
    alone = build_trainer(run, rows=training_rows(run), progress=False)
    return Trainer(
        alone.model,
        alone.parameters,
        alone.optimizer,
        rows=alone.rows,
        visual_source=alone.visual_source,
        plan=alone.plan,
        precision="fp32",
        processes=processes,
    )


def train(trainer: Trainer) -> int:
    """Do some steps; return the number of passes."""
    passes = 0
    labelled_logits = trainer.model.labelled_logits

    def counting(batch, visual):
        nonlocal passes
        passes += 1
        return labelled_logits(batch, visual)

    trainer.model.labelled_logits = counting
    for step in range(STEPS):
        trainer.step(step)
    trainer.close()
    return passes


def assert_same_bits(run: RunSettings, count: int) -> list[int]:
    """Train alone and on some devices; return how many passes each did, the one alone first."""
    alone = trainer_of(run, Processes())
    tensors: list[torch.Tensor | None] = [None] * count
    barrier = threading.Barrier(count, timeout=300)
    devices = [trainer_of(run, Together(rank, tensors, barrier)) for rank in range(count)]
    with ThreadPoolExecutor(count) as pool:
        passes = [train(alone), *pool.map(train, devices)]
    for device in devices:
        for name, parameter in device.parameters.items():
            assert torch.equal(parameter, alone.parameters[name]), name
    return passes


@pytest.mark.parametrize("mode", ["cached", "online"])
def test_one_two_and_eight_devices_train_the_same_bits(tmp_path: Path, mode: str) -> None:
    run = tiny.make_run(
        tmp_path,
        effective_batch_size=8,
        per_device_batch_size=1,
        epochs=float(STEPS),
        features=FeatureSettings(mode=mode, precision="fp32", cache_dir=str(tmp_path / "f")),
    )
    for count in (2, 8):
        alone, *shares = assert_same_bits(run, count)
        assert sum(shares) == alone


def test_settings_beyond_the_paper_train_the_same_bits_too(tmp_path: Path) -> None:
    run = beyond.make_run(
        tmp_path, effective_batch_size=8, per_device_batch_size=2, epochs=float(STEPS)
    )
    assert_same_bits(run, 2)


def test_a_device_without_a_pass_takes_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = [[0, 1, 2, 3], [4, 5, 6, 7]]
    monkeypatch.setattr("ademvl.training.loop.divide_rows", lambda sizes, *, num_passes: halves)
    run = tiny.make_run(
        tmp_path, effective_batch_size=8, per_device_batch_size=2, epochs=float(STEPS)
    )
    assert sorted(assert_same_bits(run, 4)) == [0, 0, STEPS, STEPS, 2 * STEPS]
