"""Protects that the next pass is made ready ahead, and that nothing of it is left behind."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ademvl.config.run import FeatureSettings
from ademvl.errors import DataError
from ademvl.training.ahead import one_ahead
from ademvl.training.run import build_trainer, train_run, training_rows
from tests import tiny
from tests.waiting import wait_until


def ahead_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def counting(made: list[int], *, fails_at: int = 100) -> Iterator[int]:
    for number in range(5):
        if number == fails_at:
            raise DataError(f"number {number}")
        made.append(number)
        yield number


def test_order_is_kept_and_only_the_next_one_is_made():
    made: list[int] = []
    things = one_ahead(counting(made))
    for number in range(4):
        assert next(things) == number
        wait_until(lambda number=number: len(made) > number + 1, "the next one to be made")
        assert made == list(range(number + 2))
    assert list(things) == [4]
    assert not ahead_threads()


def test_an_error_comes_where_the_thing_would_have_come():
    things = one_ahead(counting([], fails_at=2))
    assert [next(things), next(things)] == [0, 1]
    with pytest.raises(DataError, match="number 2"):
        next(things)
    assert not ahead_threads()


def test_closing_leaves_no_thread():
    things = one_ahead(counting([]))
    next(things)
    things.close()
    assert not ahead_threads()


@pytest.fixture
def online(tmp_path: Path):
    return tiny.make_run(
        tmp_path,
        effective_batch_size=4,
        per_device_batch_size=1,
        epochs=3.0,
        features=FeatureSettings(mode="online"),
    )


def test_the_first_pass_of_the_next_step_is_made_ready_too(online):
    trainer = build_trainer(online, progress=False)
    asked: list[tuple[str, ...]] = []
    for_batch = trainer.visual_source.for_batch

    def note(batch, *, epoch=0):
        asked.append(batch.item_ids)
        return for_batch(batch, epoch=epoch)

    trainer.visual_source.for_batch = note
    trainer.step(0)
    wait_until(lambda: len(asked) == 5, "the next step's first pass")
    (item,) = asked[4]
    assert item in {trainer.rows[number].item_id for number in trainer.plan.items_of(1)}
    trainer.close()
    assert not ahead_threads()


def test_steps_may_be_done_in_any_order(online):
    idle = replace(online, optimization=replace(online.optimization, base_lr=0.0))
    trainer = build_trainer(idle, progress=False)
    losses = [trainer.step(step).loss for step in (0, 1, 2, 1, 0)]
    trainer.close()
    assert losses[3:] == [losses[1], losses[0]]


def test_an_image_that_does_not_decode_is_named_with_its_item(online, tmp_path: Path):
    run_dir = tiny.write_run(tmp_path / "run", online)
    row = next(row for row in training_rows(online) if row.image is not None)
    row.image.write_bytes(b"no image")
    with pytest.raises(DataError, match=f"item {row.item_id}: {row.image}: does not decode"):
        train_run(run_dir, progress=False)
    assert not ahead_threads()
