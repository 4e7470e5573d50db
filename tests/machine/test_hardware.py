"""Protects the description of the machine: GPUs are those that the tool lists."""

import os
from pathlib import Path

import pytest

from ademvl.machine import hardware
from tests.machine.nvidia import fake_nvidia_smi


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
    fake_nvidia_smi(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    hardware.gpu_names.cache_clear()
    try:
        assert hardware.gpu_names() == names
    finally:
        hardware.gpu_names.cache_clear()
