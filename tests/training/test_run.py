"""Protects a whole training: killed anywhere and called again, it ends as if undisturbed."""

import dataclasses
import json
import math
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch

from ademvl.config.run import FeatureSettings, RunSettings
from ademvl.errors import DataError, DiskFullError, SettingsError, TrainingError
from ademvl.planning.fit import model_sizes
from ademvl.planning.flops import evaluation_flops
from ademvl.planning.sizes import MicroBatch
from ademvl.runs.metrics import read_metrics
from ademvl.training.loop import Trainer
from ademvl.training.metrics import StepResult
from ademvl.training.run import build_trainer, train_run
from tests import tiny
from tests.training import children
from tests.waiting import finish


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbones and data, with a state after every step and enough steps to be killed between."""
    folder = tmp_path_factory.mktemp("world")
    tiny.make_run(folder)
    return folder


def _run(world: Path, *, mode: str = "cached", **changes: object) -> RunSettings:
    features = FeatureSettings(mode=mode, precision="fp32", cache_dir=str(world / "features"))
    defaults = {"epochs": 20.0, "state_interval_seconds": 0.0, "features": features}
    return tiny.make_run(world, **{**defaults, **changes})


def _kill(run_dir: Path, *, wait_seconds: float) -> None:
    """Train until a while after a new state, then kill."""
    child = children.start(run_dir, most_steps=14)
    codes = children.interrupt(run_dir, [child], signal.SIGKILL, wait_seconds=wait_seconds)
    assert codes == [-signal.SIGKILL]


@pytest.fixture(scope="module", params=["cached", "online", "augmented"])
def undisturbed(request: pytest.FixtureRequest, world: Path) -> tuple[RunSettings, Path]:
    if request.param == "augmented":
        captions = tiny.make_captions(world / "captions")
        run = _run(world, mode="online", task="coco_caption", data_dir=str(captions))
        assert run.augments_images
    else:
        run = _run(world, mode=request.param)
    run_dir = tiny.write_run(world / f"undisturbed-{request.param}", run)
    children.train(run_dir)
    return run, run_dir


def test_kill_at_random_moments_ends_bit_identically(
    undisturbed: tuple[RunSettings, Path], tmp_path: Path
) -> None:
    run, expected_dir = undisturbed
    run_dir = tiny.write_run(tmp_path / "run", run)
    moments = random.Random(run.features.mode)
    for _ in range(4):  # of 14 steps at most, out of 60
        _kill(run_dir, wait_seconds=moments.uniform(0.0, 0.1))
    children.train(run_dir)
    assert children.results(run_dir) == children.results(expected_dir)
    assert not (run_dir / "state").exists()


def test_sigterm_writes_a_state_and_asks_for_a_retry(world: Path, tmp_path: Path) -> None:
    # No state in between, as no epoch of 6 steps ends: the one that SIGTERM leaves is all there is.
    run = _run(world, state_interval_seconds=1e9, effective_batch_size=2, per_device_batch_size=2)
    run_dir = tiny.write_run(tmp_path / "run", run)
    child = children.start(run_dir, most_steps=4)
    children.wait_until_held(run_dir, child)
    assert not children.newest_state(run_dir)
    children.signal_all(run_dir, [child], signal.SIGTERM)
    assert finish(child) == [75]
    assert children.newest_state(run_dir) == "step-00000005.json"
    assert not (run_dir / "adapter").exists()


def test_second_process_waits_for_the_first_and_changes_nothing(
    world: Path, tmp_path: Path
) -> None:
    run_dir = tiny.write_run(tmp_path / "run", _run(world, epochs=5.0))
    assert finish(*[children.start(run_dir) for _ in range(2)]) == [0, 0]
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["usage"]["processes"] == 1
    assert [row.step for row in read_metrics(run_dir / "metrics.csv")] == [
        2,
        4,
        6,
        8,
        10,
        12,
        14,
        15,
    ]


def test_damaged_newest_state_still_ends_bit_identically(
    undisturbed: tuple[RunSettings, Path], tmp_path: Path
) -> None:
    run, expected_dir = undisturbed
    run_dir = tiny.write_run(tmp_path / "run", run)
    _kill(run_dir, wait_seconds=0.05)
    newest = max(run_dir.glob("state/step-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:100])
    children.train(run_dir)
    assert children.results(run_dir) == children.results(expected_dir)


def test_killed_after_the_last_step_only_the_results_are_written(
    undisturbed: tuple[RunSettings, Path], tmp_path: Path
) -> None:
    run, expected_dir = undisturbed
    run_dir = tiny.write_run(tmp_path / "run", run)
    steps: list[int] = []

    def killed_here(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ademvl.training.session.write_provenance", killed_here)
        torch.set_num_threads(1)
        with pytest.raises(KeyboardInterrupt):
            train_run(run_dir, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ademvl.training.loop.Trainer.step", lambda _, step: steps.append(step))
        assert train_run(run_dir, progress=False) == 0
    assert not steps
    assert children.results(run_dir) == children.results(expected_dir)


def test_loss_scale_and_skipped_steps_go_on_after_a_resume(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _run(world, mode="online", epochs=6.0, log_interval_steps=1)
    run = dataclasses.replace(run, backbones=dataclasses.replace(run.backbones, precision="fp16"))
    stop_before = [2]  # steps; afterwards, none

    def build(*arguments: object, **options: object) -> Trainer:
        trainer = build_trainer(*arguments, **options)
        step = trainer.step

        def stopping_step(number: int) -> StepResult:
            if [number] == stop_before:
                raise KeyboardInterrupt
            return step(number)

        trainer.step = stopping_step
        trainer.parameters["value_table"].register_hook(
            lambda gradient: gradient * (math.inf if trainer.scaler.get_scale() > 2**12 else 1.0)
        )
        return trainer

    monkeypatch.setattr("ademvl.training.run.build_trainer", build)
    run_dir = tiny.write_run(tmp_path / "run", run)
    with pytest.raises(KeyboardInterrupt):
        train_run(run_dir, progress=False)
    stop_before.clear()
    undisturbed = tiny.write_run(tmp_path / "undisturbed", run)
    for folder in (run_dir, undisturbed):
        assert train_run(folder, progress=False) == 0
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        assert (provenance["overflow_steps"], provenance["skipped_steps"]) == (4, 0)
        rows = read_metrics(folder / "metrics.csv")
        assert [row.overflow_steps for row in rows[:6]] == [1, 1, 1, 1, 0, 0]
    assert children.results(run_dir)[0] == children.results(undisturbed)[0]


def test_finished_run_is_left_as_it_is(
    undisturbed: tuple[RunSettings, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run_dir = undisturbed
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()}
    monkeypatch.setattr("ademvl.training.run.build_trainer", None)
    assert train_run(run_dir) == 0
    after = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    "damage", ["adapter/adapter.safetensors", "provenance.json", "metrics.csv", "settings"]
)
def test_incomplete_or_other_results_are_made_again(
    world: Path, tmp_path: Path, damage: str
) -> None:
    run = _run(world, epochs=1.0)
    run_dir = tiny.write_run(tmp_path / "run", run)
    assert train_run(run_dir, progress=False) == 0
    adapter, curve = children.results(run_dir)
    if damage == "settings":
        tiny.write_run(run_dir, dataclasses.replace(run, seed=1))
    elif damage.endswith("safetensors"):
        (run_dir / damage).write_bytes(b"damaged")
    else:
        (run_dir / damage).unlink()
    assert train_run(run_dir, progress=False) == 0
    assert ((adapter, curve) == children.results(run_dir)) == (damage != "settings")


def test_where_things_lie_has_no_part_in_the_identity(world: Path, tmp_path: Path) -> None:
    run = _run(world, epochs=1.0)
    moved = dataclasses.replace(
        run,
        study="other",
        name="other",
        data_dir=str(shutil.copytree(run.data_dir, tmp_path / "data")),
    )
    run_dir = tiny.write_run(tmp_path / "run", run)
    assert train_run(run_dir, progress=False) == 0
    tiny.write_run(run_dir, moved)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ademvl.training.run.build_trainer", None)
        assert train_run(run_dir, progress=False) == 0


def test_provenance_tells_what_was_used(undisturbed: tuple[RunSettings, Path]) -> None:
    run, run_dir = undisturbed
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["threads"] == 1
    assert provenance["usage"]["wall_seconds"] > 0
    assert provenance["usage"]["processes"] == 1
    assert provenance["packages"]["torch"] == torch.__version__.partition("+")[0]
    name = "karpathy/coco_karpathy_train" if run.task == "coco_caption" else "problems"
    assert {f"data/{name}.json", "weights/llm/model.safetensors"} <= set(provenance["checksums"])
    parts = provenance["trainable_parameters_by_part"]
    assert provenance["trainable_parameters"] == sum(parts.values())
    assert ("clip_adapters" in parts) == (run.features.mode == "online")


@pytest.mark.parametrize(
    ("lr", "batch_size", "message"),
    [
        # The loss is no number from the second step on.
        (1e28, 4, "the last 5 of 6 steps were left out"),
        # The last step moves the weights out of what fp32 holds.
        (1e40, 12, "the last step made weights that are not finite"),
    ],
)
def test_a_training_that_diverged_leaves_a_state_and_no_adapter(
    world: Path, tmp_path: Path, lr: float, batch_size: int, message: str
) -> None:
    sizes = {"effective_batch_size": batch_size, "per_device_batch_size": batch_size}
    epochs = 2.0 if batch_size == 4 else 1.0  # of 12 items
    run = _run(world, warmup_epochs=0.0, epochs=epochs, **sizes)
    run_dir = tiny.write_run(tmp_path / "run", run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ademvl.training.loop.lr_at", lambda *_: lr)
        for _ in range(2):  # the second time nothing is trained
            with pytest.raises(TrainingError, match=message) as raised:
                train_run(run_dir, progress=False)
            assert "base_lr" in str(raised.value)
            assert children.newest_state(run_dir)
            assert not (run_dir / "adapter").exists()
            assert not (run_dir / "provenance.json").exists()
    optimization = dataclasses.replace(run.optimization, base_lr=0.01)
    tiny.write_run(run_dir, dataclasses.replace(run, optimization=optimization))
    assert train_run(run_dir, progress=False) == 0


@pytest.mark.parametrize(
    ("changes", "is_idle"),
    [
        ({}, True),
        ({"warmup_epochs": 0.0}, False),
        ({"base_lr": 0.0}, False),
        ({"epochs": 2.0}, False),
        ({"lr_evaluated_at": "middle"}, False),
    ],
)
def test_a_training_that_is_all_at_lr_zero_is_refused_unless_meant(
    world: Path, changes: dict[str, float], is_idle: bool
) -> None:
    sizes = {"effective_batch_size": 12, "per_device_batch_size": 12, "epochs": 1.0}
    run = _run(world, **{**sizes, **changes})
    if not is_idle:
        build_trainer(run, progress=False)
        return
    with pytest.raises(SettingsError, match=r"optimization\.epochs: 1\.0 .* never be updated"):
        build_trainer(run, progress=False)


def test_missing_image_is_an_error_that_names_it(world: Path, tmp_path: Path) -> None:
    data = tiny.make_scienceqa(tmp_path / "data")
    image = data / "images" / "train" / "4" / "image.png"
    image.unlink()
    for mode in ("cached", "online"):
        run = dataclasses.replace(_run(world, mode=mode), data_dir=str(data))
        run_dir = tiny.write_run(tmp_path / mode, run)
        with pytest.raises(DataError, match=str(image)):
            train_run(run_dir, progress=False)
        assert {path.name for path in run_dir.iterdir()} <= {"run.yaml", ".train.lock"}


def test_missing_data_is_an_error_that_says_what_to_do(world: Path, tmp_path: Path) -> None:
    run = dataclasses.replace(_run(world), data_dir=str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="snakemake data"):
        train_run(tiny.write_run(tmp_path / "run", run), progress=False)


def test_finished_training_stays_when_a_new_one_cannot_begin(world: Path, tmp_path: Path) -> None:
    data = shutil.copytree(_run(world).data_dir, tmp_path / "data")
    run_dir = tiny.write_run(tmp_path / "run", _run(world, epochs=1.0, data_dir=str(data)))
    assert train_run(run_dir, progress=False) == 0
    finished = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    (data / "problems.json").write_text("{}")
    with pytest.raises(DataError):
        train_run(run_dir, progress=False)
    assert {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()} == finished


def test_batch_larger_than_the_data_is_an_error(world: Path, tmp_path: Path) -> None:
    run = _run(world, effective_batch_size=16)
    with pytest.raises(SettingsError, match="only 12 items"):
        train_run(tiny.write_run(tmp_path / "run", run), progress=False)


def test_full_disk_is_said_and_training_goes_on_when_there_is_room(
    world: Path, small_disk: Path
) -> None:
    run_dir = tiny.write_run(small_disk / "run", _run(world, epochs=1.0))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((2 << 20) - (64 << 10)))
    with pytest.raises(DiskFullError, match="the disk is full"):
        train_run(run_dir, progress=False)
    assert not (run_dir / "adapter/adapter.json").exists()

    ballast.unlink()
    assert train_run(run_dir, progress=False) == 0
    assert (run_dir / "adapter/adapter.json").exists()


def test_provenance_tells_the_operations_of_a_row(undisturbed: tuple[RunSettings, Path]) -> None:
    run, run_dir = undisturbed
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    operations = provenance["operations"]
    batch = MicroBatch(rows=1, image_rows=1, width=operations["tokens"], scored=1)
    answer = evaluation_flops(model_sizes(run), batch, new_tokens=1)
    assert operations["answer"] == answer
    assert operations["training"] > 1.5 * answer
