"""Protects running Java programs: how they end is said, and no pipe or folder is shared."""

import os
import threading
from pathlib import Path

import pytest

from ademvl.errors import ToolError
from ademvl.tasks.coco_caption.metrics.java import JavaLimits, package_file, run_java, started_java
from tests.tasks.coco_caption.metrics.fake_java import write_program
from tests.waiting import wait_until

LARGE = b"x" * (4 << 20)  # far more than a pipe holds


def _limits(java, seconds=60.0):
    return JavaLimits(timeout_seconds=seconds, max_heap_mib=64, java=java)


def _run(tmp_path, script, **settings):
    java = write_program(tmp_path / "java", script)
    return run_java([], tool="SCORER", limits=_limits(java, **settings), text=LARGE)


def test_output_and_input_larger_than_pipes_pass(tmp_path):
    assert _run(tmp_path, "cat") == LARGE


def test_program_that_dies_is_reported_with_status_and_message(tmp_path):
    with pytest.raises(ToolError, match=r"SCORER: Java ended with status 134: no heap"):
        _run(tmp_path, "echo no heap >&2; exit 134")


def test_program_that_is_killed_is_reported(tmp_path):
    with pytest.raises(ToolError, match="status -9"):
        _run(tmp_path, "kill -9 $$")


def test_program_that_hangs_is_stopped(tmp_path):
    with pytest.raises(ToolError, match=r"not finished after 0\.2 seconds"):
        _run(tmp_path, "exec sleep 60", seconds=0.2)


def test_missing_runtime_is_reported(tmp_path):
    with pytest.raises(ToolError, match="cannot be run"):
        run_java([], tool="SCORER", limits=_limits(tmp_path / "java"))


def test_each_call_has_a_folder_of_its_own_that_goes(tmp_path):
    java = write_program(tmp_path / "java", "touch here; ls; pwd")
    folders = []
    threads = [
        threading.Thread(
            target=lambda: folders.append(run_java([], tool="SCORER", limits=_limits(java)))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = [folder.decode().split() for folder in folders]
    assert [names for names, _ in listed] == ["here"] * 3
    assert len({path for _, path in listed}) == 3
    assert not any(Path(path).exists() for _, path in listed)


def test_program_works_while_the_caller_goes_on(tmp_path):
    java = write_program(tmp_path / "java", f"touch {tmp_path}/begun; cat")
    with started_java([], tool="SCORER", limits=_limits(java)) as finish:
        wait_until((tmp_path / "begun").exists, "the program runs")
        assert finish(LARGE) == LARGE


def test_program_that_is_not_asked_is_stopped(tmp_path):
    java = write_program(tmp_path / "java", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    pid = tmp_path / "pid"
    with started_java([], tool="SCORER", limits=_limits(java)):
        wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"), "the program runs")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text(encoding="utf-8")), 0)


def test_missing_runtime_is_said_when_it_is_asked(tmp_path):
    with (
        started_java([], tool="SCORER", limits=_limits(tmp_path / "java")) as finish,
        pytest.raises(ToolError, match="cannot be run"),
    ):
        finish(b"")


def test_missing_jar_is_reported(tmp_path):
    with pytest.raises(ToolError, match=r"SCORER: .*a\.jar: missing"):
        package_file(tmp_path, "a.jar", tool="SCORER")
