"""Protects what the doctor says of this installation, and of one that lacks something."""

import subprocess
import sys
from pathlib import Path

import pytest

from ademvl.workflow import doctor


def test_what_is_here_is_found_and_all_of_it_has_a_line() -> None:
    findings = doctor.examine()
    by_name = {finding.what: finding for finding in findings}
    looked_at = {"Python", "torch", "torchvision", "transformers", "open_clip", "Snakemake", "Java"}
    looked_at |= {"GPUs", "memory", "disk", "network", "hub token", "hub cache", "Slurm"}
    assert by_name.keys() >= looked_at
    assert not [finding for finding in findings if finding.level == "wrong"]
    assert all(finding.remedy for finding in findings if finding.level != "ok")


def test_a_missing_driver_and_plugin_are_told_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    doctor.gpu_names.cache_clear()
    (gpus,) = doctor._gpus()
    assert (gpus.level, gpus.what) == ("note", "GPUs")
    (slurm,) = doctor._slurm()
    assert slurm.remedy.startswith("Only for clusters")
    doctor.gpu_names.cache_clear()


def test_torch_that_cannot_be_imported_is_an_error_with_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: no such file')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ademvl.workflow import doctor\n"
        "print(*doctor._torch())"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith("wrong  torch          cannot be imported: libcudart.so")
    assert "remove .venv" in run.stdout
