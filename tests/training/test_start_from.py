"""Protects trainings that start from another adapter: what they keep and refuse, and resuming."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ademvl.config.run import RunSettings
from ademvl.errors import WeightsError
from ademvl.evaluation.run import evaluate_run
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.runs.identity import training_identity
from ademvl.runs.run_state import read_object, state_of
from ademvl.storage.files import sha256_file, write_json
from ademvl.training.loop import Trainer
from ademvl.training.metrics import StepResult
from ademvl.training.run import train_run
from tests import tiny

PRETRAIN = LlamaAdapterV2Settings(
    stage="pretrain", prompt_length=3, visual_width=8, visual_blocks=1, visual_heads=2
)
SECOND = dataclasses.replace(PRETRAIN, stage="finetune_after_pretrain")
TUNED = ("norms.", "biases.")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    """A trained first stage in the directory `first` beside its data."""
    folder = tmp_path_factory.mktemp("world")
    run = tiny.make_run(folder, method=PRETRAIN, base_lr=0.1)
    train_run(tiny.write_run(folder / "first", run), progress=False)
    return run


def _world(run: RunSettings) -> Path:
    return Path(run.data_dir).parent.parent


def _second(first: RunSettings, **changes: object) -> RunSettings:
    start = str(_world(first) / "first" / "adapter")
    return dataclasses.replace(first, method=SECOND, start_from=start, **changes)


def test_second_stage_keeps_the_first_ones_part_and_trains_its_own(
    first: RunSettings, tmp_path: Path
) -> None:
    run = _second(first)
    run_dir = tiny.write_run(tmp_path / "second", run)
    assert train_run(run_dir, progress=False) == 0
    before = load_file(f"{run.start_from}/adapter.safetensors")
    after = load_file(run_dir / "adapter" / "adapter.safetensors")
    assert {name for name in after if name not in before} == {
        name for name in after if name.startswith(TUNED)
    }
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
    assert any(after[name].any() for name in after if name.startswith(TUNED))
    provenance = json.loads((run_dir / "provenance.json").read_text())
    tuned = sum(after[name].numel() for name in after if name.startswith(TUNED))
    assert provenance["trainable_parameters"] == tuned
    start = json.loads(Path(run.start_from, "adapter.json").read_text())["sha256"]
    assert provenance["checksums"]["weights/start_from"] == f"sha256:{start}"
    evaluate_run(run_dir, progress=False)
    header = read_object(run_dir / "scores" / "scienceqa.json")["header"]
    assert state_of(run_dir, run, header, provenance) == "finished"
    anew = dataclasses.replace(run, start_from="")
    assert state_of(run_dir, anew, header, provenance) == "stale"


def test_stopped_in_between_it_ends_in_the_same_adapter(
    first: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _second(first)
    step = Trainer.step

    def failing(trainer: Trainer, number: int) -> StepResult:
        if number == 3:
            raise RuntimeError("stopped")
        return step(trainer, number)

    stopped = tiny.write_run(tmp_path / "stopped", run)
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", failing)
        with pytest.raises(RuntimeError, match="stopped"):
            train_run(stopped, progress=False)
    assert list((stopped / "state").glob("step-*.json"))
    train_run(stopped, progress=False)
    undisturbed = tiny.write_run(tmp_path / "undisturbed", run)
    train_run(undisturbed, progress=False)
    weights = [
        (folder / "adapter" / "adapter.safetensors").read_bytes()
        for folder in (stopped, undisturbed)
    ]
    assert weights[0] == weights[1]


def test_another_adapter_to_start_from_is_another_training(
    first: RunSettings, tmp_path: Path
) -> None:
    run = _second(first)
    other = tmp_path / "adapter"
    shutil.copytree(run.start_from, other)
    moved = dataclasses.replace(run, start_from=str(other))
    assert training_identity(moved) == training_identity(run)
    description = json.loads((other / "adapter.json").read_text())
    weights = load_file(other / "adapter.safetensors")
    _write(other, {name: tensor + 1 for name, tensor in weights.items()}, description)
    assert training_identity(moved) != training_identity(run)


def _write(folder: Path, tensors: dict[str, torch.Tensor], description: dict[str, object]) -> None:
    save_file(tensors, folder / "adapter.safetensors")
    checksum = sha256_file(folder / "adapter.safetensors")
    write_json(folder / "adapter.json", {**description, "sha256": checksum})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": dataclasses.replace(SECOND, prompt_length=4)}, "prompts: shape"),
        ({"method": dataclasses.replace(SECOND, visual_blocks=2)}, "visual.blocks.1.*missing"),
        ({"method": LoraSettings(rank=2)}, "of method llama_adapter_v2, but run adem"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    first: RunSettings, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    run = dataclasses.replace(_second(first), **changes)
    with pytest.raises(WeightsError, match=said):
        train_run(tiny.write_run(tmp_path / "run", run), progress=False)
