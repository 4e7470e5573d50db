"""Protects what long work tells where there is no terminal: lines of what is done, at times."""

import logging

import pytest

from ademvl.machine.progress import Progress


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged in a process without a terminal."""
    caplog.set_level(logging.INFO, logger="ademvl.machine.progress")
    return caplog


def test_line_is_written_when_its_time_has_come(log: pytest.LogCaptureFixture) -> None:
    with Progress("copy", total=3, unit="file", line_every_seconds=0.0) as progress:
        progress.move(2, lambda: f"{progress.done} of {progress.total}")
        progress.move(-1, lambda: f"{progress.done} left, {progress.moved} moved")
    with Progress("copy", total=3, unit="file", line_every_seconds=1000.0) as progress:
        progress.move(3, lambda: "too early")
    assert log.messages == ["2 of 3", "1 left, 2 moved"]


def test_hidden_progress_writes_nothing(log: pytest.LogCaptureFixture) -> None:
    with Progress("copy", total=1, unit="file", line_every_seconds=0.0, shown=False) as progress:
        progress.move(1, lambda: "hidden")
    assert log.messages == []
