"""Protects what is said when memory runs out, and that nothing trained so far is lost."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ademvl.config.optimization import OptimizationSettings
from ademvl.config.run import FeatureSettings, RunSettings
from ademvl.planning.out_of_memory import (
    OutOfMemoryError,
    evaluation_advice,
    explained_out_of_memory,
    is_out_of_memory,
    training_advice,
)
from ademvl.runs.metrics import read_metrics
from ademvl.training.loop import Trainer
from ademvl.training.run import train_run
from tests import tiny
from tests.training import children

CPU = torch.device("cpu")
_TOO_MUCH = 10**15


def _run(**optimization: object) -> RunSettings:
    return RunSettings(
        study="study",
        name="run",
        seed=0,
        task="scienceqa",
        data_dir="data",
        optimization=OptimizationSettings(**optimization),
    )


def test_memory_of_the_machine_and_of_gpus_is_recognised() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(_TOO_MUCH)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("CUDA out of memory"))


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ValueError, match="other"), explained_out_of_memory(lambda: "no"):
        raise ValueError("other")


def test_training_is_told_what_needs_less() -> None:
    advice = training_advice(_run(per_device_batch_size=4), CPU)
    assert "out of memory on cpu" in advice
    assert "per_device_batch_size: 2 or 1\n" in advice
    assert "gradient_checkpointing: true" in advice
    assert "prompts.max_seq_len, now 512" in advice


def test_settings_that_are_in_force_are_not_advised() -> None:
    advice = training_advice(_run(per_device_batch_size=1, gradient_checkpointing=True), CPU)
    assert "leave the results as they are" not in advice


def test_evaluation_is_told_of_its_batch_size() -> None:
    assert "evaluation.batch_size 64" in evaluation_advice(_run(), CPU)


def test_training_that_runs_out_goes_on_with_a_smaller_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.make_run(
        tmp_path,
        features=FeatureSettings(mode="online"),
        epochs=3.0,
        log_interval_steps=1,
        gradient_checkpointing=True,
    )
    torch.set_num_threads(1)
    expected = tiny.write_run(tmp_path / "undisturbed", run)
    assert train_run(expected, progress=False) == 0
    run_dir = tiny.write_run(tmp_path / "run", run)
    accumulate = Trainer._accumulate_gradients

    def run_out(self: Trainer, *arguments: object) -> object:
        if len(read_metrics(run_dir / "metrics.csv")) == 5:
            torch.empty(_TOO_MUCH)
        return accumulate(self, *arguments)

    monkeypatch.setattr(Trainer, "_accumulate_gradients", run_out)
    with pytest.raises(OutOfMemoryError, match="per_device_batch_size: 2 or 1"):
        train_run(run_dir, progress=False)
    assert children.newest_state(run_dir) == "step-00000005.json"
    monkeypatch.undo()
    smaller = replace(run.optimization, per_device_batch_size=2, gradient_checkpointing=False)
    tiny.write_run(run_dir, replace(run, optimization=smaller))
    assert train_run(run_dir, progress=False) == 0
    curves = [[row.loss for row in read_metrics(d / "metrics.csv")] for d in (run_dir, expected)]
    assert curves[0][:5] == curves[1][:5]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)  # another order of sums in fp32
