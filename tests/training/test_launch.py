"""Protects how several processes are started and ended: exit codes, messages, signals."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ademvl.config.run import BackboneSettings, FeatureSettings
from ademvl.errors import SettingsError, TrainingError
from ademvl.runs.metrics import read_metrics
from ademvl.training.launch import run_as_one_of_several, run_processes, train
from tests import tiny
from tests.conftest import PROJECT_ROOT
from tests.training.children import free_port, newest_state, wait_for_new_state
from tests.waiting import wait_until

_PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from ademvl.errors import DataError, ProcessLostError
from ademvl.training.launch import run_as_one_of_several
from tests.waiting import wait_until
rank = int(os.environ["RANK"])
def end_when_told(*_):
    Path(f"{rank}-told").touch()
    sys.exit(9)
def work():
"""


def _run(work: str) -> int:
    """Run `work`, the body of a function that returns an exit code, in two processes."""
    body = "".join(f"    {line}\n" for line in work.splitlines())
    program = f"{_PRELUDE}{body}\nsys.exit(run_as_one_of_several(work, rank=rank))"
    return run_processes([sys.executable, "-c", program], count=2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that processes work in, where files tell what they have done."""
    folder = tmp_path / "processes"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT_ROOT))
    return folder


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_succeed() -> None:
    assert _run('return 0 if os.environ["WORLD_SIZE"] == "2" else 9') == 0


def test_process_that_fails_gives_its_message_and_ends_the_others_by_a_signal(
    folder: Path,
) -> None:
    with pytest.raises(TrainingError, match=r"^image 7 is missing$"):
        _run(
            "if rank:\n"
            '    wait_until(Path("0").exists, "process 0 is at work")\n'
            '    raise DataError("image 7 is missing")\n'
            "signal.signal(signal.SIGTERM, end_when_told)\n"
            'Path("0").touch()\n'
            "time.sleep(600)"
        )
    assert _names(folder) == {"0", "0-told"}  # and not killed, which torchrun does after 30 s


def test_same_message_of_all_processes_is_told_once() -> None:
    with pytest.raises(TrainingError, match=r"^no data$"):
        _run('raise DataError("no data")')


@pytest.mark.usefixtures("folder")
def test_process_that_only_lost_the_other_leaves_it_time_to_tell_the_cause() -> None:
    with pytest.raises(TrainingError, match=r"^image 7 is missing$"):
        _run(
            "if rank:\n"
            '    wait_until(Path("waits").exists, "process 0 waits before it ends")\n'
            '    raise DataError("image 7 is missing")\n'
            "sleep = time.sleep\n"
            'time.sleep = lambda seconds: (Path("waits").touch(), sleep(600))\n'
            'raise ProcessLostError("gone")'
        )


def test_bug_is_exit_code_one(caplog: pytest.LogCaptureFixture) -> None:
    assert _run('if rank: raise ValueError("oh")\ntime.sleep(600)') == 1
    assert "process 1 failed: ValueError: oh" in caplog.text


def test_killed_process_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert _run("if rank: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(600)") == 1
    assert "process 1 was ended by SIGKILL" in caplog.text


def test_exit_code_for_a_retry_is_passed_on() -> None:
    assert _run("return 75") == 75


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_signal_reaches_all_processes(folder: Path, number: signal.Signals, code: int) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    sender = threading.Thread(
        target=_send_when, args=(lambda: _names(folder) == {"0", "1"}, number), daemon=True
    )
    sender.start()
    found = _run(
        f"signal.signal({int(number)}, end_when_told)\nPath(str(rank)).touch()\ntime.sleep(600)"
    )
    assert found == code
    assert _names(folder) == {"0", "1", "0-told", "1-told"}
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def _send_when(is_time: Callable[[], bool], number: signal.Signals) -> None:
    wait_until(is_time, "both processes are at work")
    os.kill(os.getpid(), number)


def test_without_torchrun_errors_are_raised_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)

    def work() -> int:
        raise TrainingError("no")

    with pytest.raises(TrainingError, match="no"):
        run_as_one_of_several(work, rank=0)


def _mini_run(tmp_path: Path, **changes: object) -> Path:
    """Write a run on the mini backbones, which any process finds."""
    run = tiny.make_run(
        tmp_path,
        backbones=BackboneSettings(),
        features=FeatureSettings(mode="online"),
        **{"effective_batch_size": 4, "per_device_batch_size": 1, "epochs": 2.0, **changes},
    )
    return tiny.write_run(tmp_path / "run", run)


def test_batches_that_do_not_divide_name_the_numbers_that_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"possible: \[1, 2, 4\] processes"):
        train(_mini_run(tmp_path), processes=3)


@pytest.mark.parametrize(("processes", "gpus"), [(0, 0), (3, 2), (2, 1)])
def test_number_of_processes_fits_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, gpus: int
) -> None:
    monkeypatch.setattr("ademvl.training.launch.usable_gpus", lambda _: gpus)
    with pytest.raises(SettingsError, match=f"--processes: {processes}, expected"):
        train(_mini_run(tmp_path), processes=processes)


def _start_command(run_dir: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ademvl", "train", str(run_dir)]
    return subprocess.Popen(
        [*command, "--processes", "2", "--threads", "2"],
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_variables_left_over_are_told_and_a_signal_ends_the_wait(
    tmp_path: Path, rank: str, number: signal.Signals, code: int
) -> None:
    run_dir = _mini_run(tmp_path)
    left_over = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ademvl", "train", str(run_dir)],
        env={**os.environ, **left_over, "MASTER_PORT": str(free_port())},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = next(line for line in process.stderr if "waits for" in line)
    assert f"process {rank} of 2 waits for process {1 - int(rank)} of 2 at 127.0.0.1:" in told
    assert f"RANK={rank} and WORLD_SIZE=2 in the environment" in told
    os.kill(process.pid, number)
    _, printed = process.communicate()
    assert process.returncode == code, printed
    assert "Traceback" not in printed  # torch may say that its wait was interrupted
    assert not (run_dir / "adapter").exists()


@pytest.mark.slow
def test_command_trains_on_two_processes(tmp_path: Path) -> None:
    run_dir = _mini_run(tmp_path)
    process = _start_command(run_dir)
    _, printed = process.communicate()
    assert process.returncode == 0, printed
    provenance = json.loads((run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["parallel_processes"] == 2
    assert provenance["threads"] == 1
    assert [row.step for row in read_metrics(run_dir / "metrics.csv")] == [2, 4, 6]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_command_goes_on_bit_identically(tmp_path: Path, number: signal.Signals) -> None:
    settings = {"epochs": 10.0, "state_interval_seconds": 0.0}
    expected = _mini_run(tmp_path / "expected", **settings)
    assert train(expected, threads=1) == 0
    run_dir = _mini_run(tmp_path, **settings)
    for _ in range(3):
        process = _start_command(run_dir)
        wait_for_new_state(run_dir, newest_state(run_dir), process)
        os.kill(process.pid, number)
        _, printed = process.communicate()
        assert process.returncode == (75 if number == signal.SIGTERM else -number), printed
    process = _start_command(run_dir)
    process.communicate()
    assert process.returncode == 0
    adapter = "adapter/adapter.safetensors"
    assert (run_dir / adapter).read_bytes() == (expected / adapter).read_bytes()
