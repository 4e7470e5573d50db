"""Protects what a piece of work is said to cost: time, memory, energy, several processes."""

import os
from pathlib import Path

import pytest

from ademvl.machine import usage
from ademvl.machine.hardware import gpu_names
from ademvl.machine.usage import Usage, UsageMeter
from tests.machine.nvidia import fake_nvidia_smi
from tests.waiting import wait_until


def test_usage_of_several_processes_adds_up() -> None:
    first = Usage(10.0, 20.0, 100.0, 5.0, None, 1)
    second = Usage(1.0, 2.0, 300.0, 0.0, 7.0, 1)
    assert first + second == Usage(11.0, 22.0, 300.0, 5.0, 7.0, 2)


def test_meter_measures_this_process() -> None:
    with UsageMeter() as meter:
        sum(range(1_000_000))
        found = meter.read()
    assert found.wall_seconds > 0
    assert found.cpu_seconds >= 0
    assert found.peak_memory_mib > 1
    assert found.processes == 1


def test_energy_is_the_sum_of_sampled_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia_smi(tmp_path, 'case "$1" in *power*) echo 100; echo 50;; *) echo X; echo Y;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(usage._EnergyMeter, "interval_seconds", 0.01)
    monkeypatch.setattr(usage, "peak_gpu_memory_mib", lambda: 1.0)
    gpu_names.cache_clear()
    try:
        with UsageMeter() as meter:
            wait_until(lambda: meter.read().energy_joules, "the power was asked for")
            found, later = meter.read(), meter.read()
    finally:
        gpu_names.cache_clear()
    assert 0 < found.energy_joules <= 150 * later.wall_seconds * 1.01
