"""Protects that the number of processes changes nothing, also where it changes on the way."""

import json
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from ademvl.config.methods_by_name import built_in_methods
from ademvl.config.run import FeatureSettings, RunSettings
from ademvl.errors import ProcessLostError, TrainingError
from ademvl.machine.usage import UsageMeter
from ademvl.methods.gated_xattn.settings import GatedXattnSettings, PerceiverSettings
from ademvl.methods.lavin.settings import LavinSettings
from ademvl.methods.llama_adapter.settings import LlamaAdapterSettings
from ademvl.methods.llama_adapter_v2.settings import LlamaAdapterV2Settings
from ademvl.methods.llava_lora.settings import LlavaLoraSettings
from ademvl.methods.lora.settings import LoraSettings
from ademvl.methods.memvp.settings import MemvpSettings
from ademvl.methods.vl_adapter.settings import VlAdapterSettings
from ademvl.runs.identity import training_identity
from ademvl.runs.metrics import read_metrics
from ademvl.runs.run_files import RunFiles
from ademvl.training.interruption import Interruption
from ademvl.training.processes import Processes
from ademvl.training.run import build_trainer, training_rows
from ademvl.training.session import Session
from tests import tiny
from tests.training import children
from tests.waiting import finish

# Asked for is 1e-6. Gradients are added up in fp64, so that most often there is no difference.
LOSS_TOLERANCE = 1e-6
STEPS = 50
METHODS: Mapping[str, dict[str, object]] = {
    "adem": {},
    "lavin": {"method": LavinSettings(cls_blocks=(0, 2))},
}
OTHER_METHODS: Mapping[str, dict[str, object]] = {
    "memvp": {"method": MemvpSettings(table_rows=20, projection_width=4)},
    "lora": {"method": LoraSettings(rank=2)},
    "llava_lora": {"method": LlavaLoraSettings(rank=2, visual_tokens=16, projection_width=4)},
    "llama_adapter": {
        "method": LlamaAdapterSettings(first_layer=1, cls_blocks=(0, -1), projection_width=4)
    },
    "llama_adapter_v2": {
        "method": LlamaAdapterV2Settings(visual_width=8, visual_blocks=2, visual_heads=2)
    },
    "gated_xattn": {
        "method": GatedXattnSettings(every=2, perceiver=PerceiverSettings(layers=1, num_latents=3))
    },
    "vl_adapter": {"method": VlAdapterSettings(visual_tokens=4, reduction_factor=4)},
}

ALL_METHODS = {**METHODS, **OTHER_METHODS}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    tiny.make_run(folder)
    return folder


def _run(world: Path, *, mode: str, steps: int, **changes: object) -> RunSettings:
    defaults = {
        "effective_batch_size": 8,
        "per_device_batch_size": 2,
        "epochs": float(steps),  # a batch of 8 out of 12 items: one step an epoch
        "warmup_epochs": 4.0,
        "base_lr": 9e-3 * 32,  # the peak of the paper's 9e-3 at its batch of 32
        "log_interval_steps": 1,
        "features": FeatureSettings(mode=mode, precision="fp32", cache_dir=str(world / "features")),
    }
    return tiny.make_run(world, **{**defaults, **changes})


def _losses(run_dir: Path) -> list[float]:
    return [row.loss for row in read_metrics(run_dir / "metrics.csv")]


def _train(folder: Path, run: RunSettings, *, processes: int) -> Path:
    run_dir = tiny.write_run(folder / f"on{processes}", run)
    children.train(run_dir, processes=processes)
    return run_dir


@pytest.mark.parametrize("changes", METHODS.values(), ids=METHODS.keys())
def test_two_processes_follow_the_trajectory_of_one(
    world: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    run = _run(world, mode="online", steps=8, **changes)
    one, two = (_train(tmp_path, run, processes=count) for count in (1, 2))
    assert _losses(two) == pytest.approx(_losses(one), abs=LOSS_TOLERANCE)
    provenance = json.loads((two / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["parallel_processes"] == 2
    assert provenance["accumulation_steps"] == 2
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cached", "online"])
def test_fifty_steps_on_one_two_and_eight_processes(world: Path, tmp_path: Path, mode: str) -> None:
    run = _run(world, mode=mode, steps=STEPS, per_device_batch_size=1)
    one, *others = (_losses(_train(tmp_path, run, processes=count)) for count in (1, 2, 8))
    assert len(one) == STEPS
    assert one[-1] < one[0]
    for losses in others:
        assert losses == pytest.approx(one, abs=LOSS_TOLERANCE)


def test_all_methods_are_here():
    assert ALL_METHODS.keys() == set(built_in_methods())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cached", "online"])
@pytest.mark.parametrize("changes", ALL_METHODS.values(), ids=ALL_METHODS.keys())
def test_every_method_on_one_two_and_eight_processes_and_killed(
    world: Path, tmp_path: Path, mode: str, changes: dict[str, object]
) -> None:
    run = _run(world, mode=mode, steps=20, per_device_batch_size=1, **changes)
    one, *others = (_train(tmp_path, run, processes=count) for count in (1, 2, 8))
    for run_dir in others:
        assert _losses(run_dir) == pytest.approx(_losses(one), abs=LOSS_TOLERANCE)
    often = _run(
        *(world,),
        **{"mode": mode, "steps": 20, "per_device_batch_size": 1, "state_interval_seconds": 0.0},
        **changes,
    )
    killed = tiny.write_run(tmp_path / "killed", often)
    for wait_seconds in (0.0, 0.1):
        child = children.start(killed, most_steps=8)
        codes = children.interrupt(killed, [child], signal.SIGKILL, wait_seconds=wait_seconds)
        assert codes == [-signal.SIGKILL]
    children.train(killed, processes=1)
    assert children.results(killed) == children.results(one)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["cached", "online"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_resume_on_another_number_of_processes(
    world: Path, tmp_path: Path, mode: str, before: int, after: int
) -> None:
    run = _run(world, mode=mode, steps=STEPS)
    undisturbed = _train(tmp_path, run, processes=1)
    run_dir = tiny.write_run(tmp_path / "moved", run)
    started = (
        children.start_several(run_dir, before, most_steps=20)
        if before > 1
        else [children.start(run_dir, most_steps=20)]
    )
    codes = children.interrupt(run_dir, started, signal.SIGTERM, wait_seconds=0.1)
    assert codes == [75] * before
    assert 0 < int(children.newest_state(run_dir)[5:13]) < STEPS
    children.train(run_dir, processes=after)
    assert _losses(run_dir) == pytest.approx(_losses(undisturbed), abs=LOSS_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_two_processes_stopped_at_random_steps_end_bit_identically(
    world: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = _run(world, mode="online", steps=STEPS, state_interval_seconds=0.0)
    expected = _train(tmp_path, run, processes=2)
    run_dir = tiny.write_run(tmp_path / "stopped", run)
    moments = random.Random(int(number))
    expected_code = 75 if number == signal.SIGTERM else -signal.SIGKILL
    for _ in range(3):
        codes = children.interrupt(
            run_dir,
            children.start_several(run_dir, 2, most_steps=14),
            number,
            wait_seconds=moments.uniform(0.0, 0.2),
        )
        assert codes == [expected_code] * 2
    children.train(run_dir, processes=2)
    assert children.results(run_dir) == children.results(expected)


def test_tasks_of_srun_train_together(world: Path, tmp_path: Path) -> None:
    run = _run(world, mode="cached", steps=3)
    run_dir = tiny.write_run(tmp_path / "run", run)
    step = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_ID": "0",
        "SLURM_NODEID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_STEP_NODELIST": "localhost",
    }
    tasks = [
        children.start(run_dir, {**step, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
        for rank in ("0", "1")
    ]
    assert finish(*tasks) == [0, 0]
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["parallel_processes"] == 2


class _Faulty(Processes):
    """A second process whose gradients differ."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self._factor = factor

    def gather_numbers(self, *numbers: float) -> list[list[float]]:
        return [list(numbers), [numbers[0] * self._factor, *numbers[1:]]]


class _Lost(_Faulty):
    """Another process that is gone when the second step is told."""

    def gather_numbers(self, *numbers: float) -> list[list[float]]:
        self._factor -= 1
        if self._factor < 0:
            raise ProcessLostError("another process of this training is gone")
        return [list(numbers)] * 2


def _train_beside(processes: Processes, world: Path, tmp_path: Path, **changes: object) -> int:
    run = _run(world, mode="cached", steps=3, **changes)
    files = RunFiles(tiny.write_run(tmp_path / "run", run))
    identity = training_identity(run)
    trainer = build_trainer(run, rows=training_rows(run), processes=processes, progress=False)
    session = Session(run, files, identity, trainer)
    with UsageMeter() as meter:
        return session.train(Interruption(), meter, progress=False)


def test_processes_that_differ_are_noticed(world: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 1: .* is faulty"):
        _train_beside(_Faulty(1.001), world, tmp_path)


def test_a_process_lost_between_two_steps_leaves_those_done(world: Path, tmp_path: Path) -> None:
    small = {"effective_batch_size": 2, "per_device_batch_size": 1, "state_interval_seconds": 1e9}
    with pytest.raises(ProcessLostError):  # no epoch of 6 steps has ended
        _train_beside(_Lost(1), world, tmp_path, **small)
    assert children.newest_state(tmp_path / "run") == "step-00000002.json"


def test_rounding_of_another_processor_is_no_fault(world: Path, tmp_path: Path) -> None:
    assert _train_beside(_Faulty(1 + 1.6e-7), world, tmp_path) == 0


def test_signal_to_one_process_ends_all_with_a_state(world: Path, tmp_path: Path) -> None:
    run = _run(world, mode="cached", steps=400, state_interval_seconds=0.0)
    run_dir = tiny.write_run(tmp_path / "run", run)
    first, second = children.start_several(run_dir, 2, most_steps=100)
    children.wait_for_new_state(run_dir, "", first, second)
    children.signal_all(run_dir, [second], signal.SIGTERM)
    assert finish(first, second) == [75, 75]
    assert children.newest_state(run_dir)


def test_lost_process_ends_the_other_which_keeps_what_was_done(world: Path, tmp_path: Path) -> None:
    small = {"effective_batch_size": 2, "per_device_batch_size": 1, "state_interval_seconds": 1e9}
    run = _run(world, mode="cached", steps=5, **small)  # 5 epochs of 6 steps each
    run_dir = tiny.write_run(tmp_path / "run", run)
    first, second = children.start_several(run_dir, 2, most_steps=9)
    children.wait_until_held(run_dir, first, second)
    assert children.newest_state(run_dir) == "step-00000006.json"
    children.signal_all(run_dir, [second], signal.SIGKILL)
    codes = finish(first, second)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    assert read_metrics(run_dir / "metrics.csv")[-1].step == 9
    assert children.newest_state(run_dir) == "step-00000009.json"
