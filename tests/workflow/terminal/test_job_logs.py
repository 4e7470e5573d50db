"""Protects what is read from a job's log: the lines that the verbs themselves write there."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from ademvl.training.progress import TrainingProgress
from ademvl.workflow.terminal.job_logs import (
    read_message,
    read_training_state,
    read_warnings,
    was_interrupted,
)


def write_log(folder: Path, text: str) -> list[str]:
    path = folder / "job.log"
    path.write_text(text, encoding="utf-8")
    return [str(path)]


def test_progress_is_read_from_the_line_that_a_training_writes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, logger="ademvl.machine.progress"),
        TrainingProgress(total_steps=80, first_step=0, shown=True) as progress,
    ):
        progress.advance(80, loss=0.43211, num_items=16)
    lines = [
        f"{record.levelname} {record.name}: {record.getMessage()}" for record in caplog.records
    ]
    state = read_training_state(write_log(tmp_path, "\n".join(lines)))
    assert state is not None
    assert (state.step, state.total_steps, state.loss, state.seconds_left) == (80, 80, "0.4321", 0)


def test_other_logs_and_missing_ones_tell_of_no_training(tmp_path: Path) -> None:
    assert read_training_state(write_log(tmp_path, "INFO ademvl.data: 12 images\n")) is None
    assert read_training_state([str(tmp_path / "none.log")]) is None
    assert read_training_state([]) is None


def test_message_of_a_refused_verb_is_read_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ademvl", "tables", str(tmp_path / "none.yaml")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    logs = write_log(tmp_path, "WARNING ademvl.x: before\n" + run.stderr)
    assert run.returncode == 2
    assert read_message(logs) == run.stderr.partition("ademvl tables: ")[2].rstrip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Traceback (most recent call last):\n  File x\nValueError: no\n", "ValueError: no"),
        ("INFO ademvl.x: fine\ninterrupted\n", "interrupted"),
        ("INFO ademvl.x: fine\n", ""),
        ("", ""),
    ],
)
def test_what_a_job_said_last(tmp_path: Path, text: str, message: str) -> None:
    found = read_message(write_log(tmp_path, text))
    assert found == message
    assert was_interrupted(found) == (message == "interrupted")


def test_warnings_are_read_once_each(tmp_path: Path) -> None:
    text = "WARNING ademvl.a: one\nINFO ademvl.a: two\nWARNING ademvl.b: one\nWARNING x: three\n"
    assert read_warnings(write_log(tmp_path, text)) == ["one", "three"]
