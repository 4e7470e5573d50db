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


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        (["updated", "not_finite"], "the last 1 of 2 steps were left out"),
        (["updated", "not_finite", "not_finite"], "the last 2 of 3 steps were left out"),
        (["not_finite", "overflow"], "the last 1 of 2 steps were left out"),
        (["overflow", "overflow"], "all 2 steps were left out.* was never updated"),
        (["not_finite", "overflow", "updated"], ""),
        (["updated", "overflow"], ""),
    ],
)
def test_an_end_without_a_usable_adapter_is_refused(outcomes: list[str], message: str) -> None:
    guard = NonFiniteGuard(limit=10)
    for step, outcome in enumerate(outcomes, 1):
        if outcome == "not_finite":
            guard.note_not_finite(step, "loss", [f"q{step}"])
        else:
            guard.note(outcome)
    if not message:
        guard.refuse_end(len(outcomes))
        return
    with pytest.raises(NotFiniteError, match=message) as raised:
        guard.refuse_end(len(outcomes))
    assert "Lower optimization.base_lr" in str(raised.value)
    concerned = [f"q{step}" for step, name in enumerate(outcomes, 1) if name == "not_finite"]
    assert all(item_id in str(raised.value) for item_id in concerned)


def test_warning_lists_the_first_items_and_counts_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        NonFiniteGuard(limit=2).note_not_finite(7, "gradient", [f"q{n}" for n in range(32)])
    assert "step 7 left out: the gradient is not finite" in caplog.text
    assert "q19 and 12 more" in caplog.text
