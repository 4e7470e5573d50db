"""Protects which GPUs a job gets, and what its processes see of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ademvl.config.gpu_limit import check_gpu_limit, parse_gpu_limit
from ademvl.errors import SettingsError, ToolError
from ademvl.machine.gpus import lock_folder, reserved_gpus, visible_gpus
from tests.conftest import PROJECT_ROOT

RUN = Path("results/mini/runs/adem/seed0")
NVIDIA_SMI = """#!/bin/sh
printf '0, GPU-aaaa\\n1, GPU-bbbb\\n2, GPU-cccc\\n'
"""


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    """Leave nothing of the machine that runs the tests."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADEMVL_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


@pytest.fixture
def three_gpus(tmp_path):
    """A machine whose nvidia-smi lists three GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)


def ids(environ: dict[str, str]) -> list[str]:
    return [gpu.id for gpu in visible_gpus(os.environ | environ)]


def locks(environ: dict[str, str]) -> list[str]:
    return [gpu.lock for gpu in visible_gpus(os.environ | environ)]


def test_machine_without_gpus_has_none():
    assert visible_gpus(os.environ) == ()


@pytest.mark.usefixtures("three_gpus")
def test_all_gpus_of_the_machine_are_allowed_unless_the_environment_says_less():
    assert ids({}) == ["0", "1", "2"]
    assert ids({"CUDA_VISIBLE_DEVICES": "2,0"}) == ["2", "0"]
    assert ids({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert ids({"CUDA_VISIBLE_DEVICES": "1,-1,0"}) == ["1"]


@pytest.mark.usefixtures("three_gpus")
def test_one_gpu_has_one_lock_whatever_it_is_called():
    assert locks({"CUDA_VISIBLE_DEVICES": "1,GPU-bbb"}) == ["GPU-bbbb", "GPU-bbbb"]


@pytest.mark.usefixtures("three_gpus")
def test_gpu_that_the_machine_does_not_have_is_named():
    with pytest.raises(ToolError, match="has no GPU 7, only 0, 1, 2"):
        ids({"CUDA_VISIBLE_DEVICES": "7"})


def test_without_nvidia_smi_the_environment_is_taken_at_its_word():
    assert locks({"CUDA_VISIBLE_DEVICES": "0,1"}) == ["gpu-0", "gpu-1"]


def test_indices_of_slurm_count_within_an_allocation():
    one = locks({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7"})
    other = locks({"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "8"})
    assert one != other


@pytest.mark.parametrize("limit", ["al", -1, True, [0, 0], [1.5], ["x"], None])
def test_wrong_limit_is_refused(limit):
    with pytest.raises((SettingsError, TypeError)):
        check_gpu_limit(limit)


def test_limit_is_read_as_in_a_study_file():
    assert parse_gpu_limit("all") == "all"
    assert parse_gpu_limit("2") == 2
    assert parse_gpu_limit("[0, GPU-ab]") == [0, "GPU-ab"]
    with pytest.raises(SettingsError, match="--gpu-limit"):
        parse_gpu_limit("{a: 1}")


def test_job_finds_its_gpus_in_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with reserved_gpus(1, job=RUN) as first:
        assert first == ("3",)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert "CUDA_DEVICE_ORDER" not in os.environ


def test_job_of_the_cpu_sees_no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    for count, limit in ((0, "all"), (1, 0)):
        with reserved_gpus(count, limit=limit, job=RUN) as taken:
            assert taken == ()
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not lock_folder(os.environ).exists()


def test_without_a_count_one_is_taken_where_there_is_any(monkeypatch):
    with reserved_gpus(None, job=RUN) as taken:
        assert taken == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with reserved_gpus(None, job=RUN) as taken:
        assert taken == ("3",)


def test_machine_without_gpus_uses_the_cpu_and_says_so(caplog):
    with reserved_gpus(2, job=RUN) as taken:
        assert taken == ()
    assert "2 GPU(s) wanted, none there: running on the CPU" in caplog.text


def test_list_of_the_study_chooses_among_the_allowed(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with reserved_gpus(1, limit=[2, 7], job=RUN) as taken:
        assert taken == ("2",)
    with pytest.raises(SettingsError, match=r"gpus: \[7\], but .* are 0, 1, 2"):
        reserved_gpus(1, limit=[7], job=RUN).__enter__()


def test_scheduler_decides_in_its_jobs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with reserved_gpus(1, limit=[0], job=RUN) as taken:
        assert taken == ("1",)


def test_more_gpus_than_allowed_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ToolError, match=r"3 GPUs wanted, but this job may use 2 \(0, 1\)"):
        reserved_gpus(3, job=RUN).__enter__()
    with pytest.raises(SettingsError, match="gpus: 1, but this job is to run on 2"):
        reserved_gpus(2, limit=1, job=RUN).__enter__()


def test_one_of_several_processes_has_what_its_launcher_took(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with reserved_gpus(2, job=RUN):
        monkeypatch.setenv("WORLD_SIZE", "2")
        with reserved_gpus(2, job=RUN) as taken:
            assert taken == ("0", "1")


HOLDER = """
import logging, sys
from pathlib import Path
from ademvl.machine.gpus import reserved_gpus
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
with reserved_gpus(1, limit=int(sys.argv[1]), job=Path(sys.argv[2])):
    sys.stdin.readline()
"""


def holder(limit: int, run: str) -> subprocess.Popen[str]:
    """Start a job that says what it waits for and what it has, and ends when it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(limit), run],
        cwd=PROJECT_ROOT,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_number_limits_a_study_and_leaves_the_rest_to_others(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    first = holder(1, "results/mini/runs/adem/seed0")
    assert first.stdout.readline().endswith("/adem/seed0: on GPU 0\n")
    second = holder(1, "results/mini/runs/adem/seed1")
    assert second.stdout.readline().startswith("waiting for 1 of the 1 GPUs that ")
    other = holder(1, "results/other/runs/adem/seed0")
    assert other.stdout.readline().endswith("/other/runs/adem/seed0: on GPU 1\n")
    first.communicate("\n")
    assert second.stdout.readline().endswith("/adem/seed1: on GPU 0\n")
    for process in (second, other):
        process.communicate("\n")
        assert process.returncode == 0
