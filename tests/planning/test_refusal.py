"""Protects that a training which would not fit is refused before weights are read, and by whom."""

import subprocess
import sys

import pytest

from ademvl.errors import SettingsError
from ademvl.machine import free_memory as free_memory_module
from ademvl.machine.free_memory import FreeMemory
from ademvl.planning.fit import memory_rows
from ademvl.training.run import train_run, training_rows
from tests.conftest import PROJECT_ROOT
from tests.tiny import make_run, write_run

SMALL = FreeMemory("cpu", "this machine", 64 << 20)


@pytest.fixture
def small_machine(monkeypatch):
    monkeypatch.setattr(free_memory_module, "free_host_memory", lambda *, shares: SMALL)


def test_training_is_refused_before_weights_are_read(tmp_path, small_machine):
    run_dir = write_run(tmp_path / "run", make_run(tmp_path))
    (tmp_path / "llm" / "model.safetensors").unlink()
    (tmp_path / "llm" / "model.safetensors").write_bytes(b"\0not weights")
    with pytest.raises(SettingsError, match=r"this machine has 64 MiB free(.|\n)*--ignore-memory"):
        train_run(run_dir, progress=False)
    assert not (run_dir / "adapter").exists()
    assert not list((run_dir / "state").glob("*"))


def test_refusal_can_be_overridden(tmp_path, small_machine):
    run_dir = write_run(tmp_path / "run", make_run(tmp_path, epochs=1.0))
    assert train_run(run_dir, progress=False, ignore_memory=True) == 0


def test_rows_of_the_training_data_decide_the_longest_twice(tmp_path):
    run = make_run(tmp_path)
    rows = training_rows(run)
    found = memory_rows(rows)
    assert {row.width for row in found} == {len(row.ids) for row in rows}
    assert sum(row.has_image for row in found) == 2 * sum(row.image is not None for row in rows)


def test_verb_knows_the_override():
    command = [sys.executable, "-m", "ademvl", "train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    assert "--ignore-memory" in done.stdout
