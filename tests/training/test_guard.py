"""Protects the counts of steps left out: they survive a resume, and end a training in time."""

import json
import logging

import pytest

from ademvl.training.guard import NonFiniteGuard, NotFiniteError


def test_counts_go_on_after_a_resume() -> None:
    guard = NonFiniteGuard(limit=3)
    guard.note("overflow")
    guard.note_not_finite(2, "loss", ["a"])
    guard.note_not_finite(3, "loss", ["a", "b"])
    resumed = NonFiniteGuard(limit=3, record=json.loads(json.dumps(guard.to_record())))
    assert (resumed.overflow_steps, resumed.skipped_steps) == (1, 2)
    with pytest.raises(NotFiniteError, match="steps 2 to 4") as raised:
        resumed.note_not_finite(4, "loss", ["c"])
    assert [line for line in str(raised.value).splitlines() if line.startswith("  - ")] == [
        "  - item a",
        "  - item b",
        "  - item c",
    ]


def test_a_good_step_begins_the_count_anew() -> None:
    guard = NonFiniteGuard(limit=2)
    for step in range(1, 9, 2):
        guard.note_not_finite(step, "gradient", ["a"])
        guard.note("updated")
    assert guard.skipped_steps == 4


def test_overflows_alone_never_end_a_training() -> None:
    guard = NonFiniteGuard(limit=1)
    for _ in range(100):
        guard.note("overflow")
    assert guard.overflow_steps == 100


def test_warning_lists_the_first_items_and_counts_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        NonFiniteGuard(limit=2).note_not_finite(7, "gradient", [f"q{n}" for n in range(32)])
    assert "step 7 left out: the gradient is not finite" in caplog.text
    assert "q19 and 12 more" in caplog.text
