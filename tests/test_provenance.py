"""Protects provenance.json: complete, plain, and honest about several processes and GPUs."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ademvl import provenance
from ademvl.runs.provenance import (
    Usage,
    UsageMeter,
    checksum_file,
    sources_sha256,
    write_provenance,
)
from tests.waiting import wait_until


def _write(path: Path, **details: object) -> dict[str, object]:
    write_provenance(
        path,
        usage=Usage(wall_seconds=1.0, processes=1),
        started=datetime(2020, 1, 1, tzinfo=UTC),
        checksums={"data/problems.json": "sha256:0"},
        details=details,
    )
    return json.loads(path.read_text(encoding="utf-8"))


def test_file_says_what_ran_where_and_on_what(tmp_path: Path) -> None:
    content = _write(tmp_path / "provenance.json", seed=3)
    assert content["seed"] == 3
    assert content["code"]["sources_sha256"] == sources_sha256()
    assert content["started"] == "2020-01-01T00:00:00+00:00"
    assert content["hardware"]["cores"] >= 1
    assert content["hardware"]["cpu"]
    assert {"torch", "transformers"} <= content["packages"].keys()
    assert content["checksums"] == {"data/problems.json": "sha256:0"}


def test_details_cannot_replace_what_is_always_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="usage"):
        _write(tmp_path / "provenance.json", usage="mine")


def test_usage_of_several_processes_adds_up() -> None:
    first = Usage(10.0, 20.0, 100.0, 5.0, None, 1)
    second = Usage(1.0, 2.0, 300.0, 0.0, 7.0, 1)
    assert first + second == Usage(11.0, 22.0, 300.0, 5.0, 7.0, 2)


def test_meter_measures_this_process() -> None:
    with UsageMeter() as meter:
        sum(range(1_000_000))
        usage = meter.read()
    assert usage.wall_seconds > 0
    assert usage.cpu_seconds >= 0
    assert usage.peak_memory_mib > 1
    assert usage.processes == 1


def test_large_files_are_sampled_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "WHOLE_CHECKSUM_BYTES", 1 << 20)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    large.write_bytes(bytes(3 << 20))
    before = checksum_file(large)
    assert checksum_file(small).startswith("sha256:")
    assert before.startswith("sampled-sha256:")
    large.write_bytes(bytes((3 << 20) - 1) + b"x")
    assert checksum_file(large) != before


def _fake_nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo 'NVIDIA X100'; echo 'NVIDIA X200'", ("NVIDIA X100", "NVIDIA X200")),
        ("echo broken; exit 9", ()),
    ],
)
def test_gpus_are_those_that_the_tool_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: tuple[str, ...]
) -> None:
    _fake_nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    provenance.gpu_names.cache_clear()
    try:
        assert provenance.gpu_names() == names
    finally:
        provenance.gpu_names.cache_clear()


def test_energy_is_the_sum_of_sampled_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_nvidia_smi(tmp_path, 'case "$1" in *power*) echo 100; echo 50;; *) echo X; echo Y;; esac')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(provenance._EnergyMeter, "interval_seconds", 0.01)
    monkeypatch.setattr(provenance, "peak_gpu_memory_mib", lambda: 1.0)
    provenance.gpu_names.cache_clear()
    try:
        with UsageMeter() as meter:
            wait_until(lambda: meter.read().energy_joules, "the power was asked for")
            usage, later = meter.read(), meter.read()
    finally:
        provenance.gpu_names.cache_clear()
    assert 0 < usage.energy_joules <= 150 * later.wall_seconds * 1.01
