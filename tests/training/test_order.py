"""Protects the order of the data: it depends on seed and epoch only, and fills whole steps."""

import pytest

from ademvl.config.optimization import OptimizationSettings
from ademvl.errors import SettingsError
from ademvl.training.order import StepPlan, batch_order

PINNED_ORDER = (4, 5, 3, 0, 2, 1)


def _plan(num_items: int = 10, *, seed: int = 0, **values: float | str) -> StepPlan:
    defaults = {"effective_batch_size": 4, "per_device_batch_size": 4, "epochs": 2}
    return StepPlan(num_items, seed, OptimizationSettings(**{**defaults, **values}))


def test_order_is_a_permutation_of_all_items() -> None:
    assert sorted(batch_order(100, seed=1, epoch=3)) == list(range(100))


def test_order_depends_on_seed_and_epoch() -> None:
    order = batch_order(100, seed=1, epoch=3)
    batch_order.cache_clear()
    assert order == batch_order(100, seed=1, epoch=3)
    assert order != batch_order(100, seed=2, epoch=3)
    assert order != batch_order(100, seed=1, epoch=4)


def test_order_of_a_seed_never_changes_between_releases() -> None:
    assert batch_order(6, seed=0, epoch=0) == PINNED_ORDER


def test_items_do_not_depend_on_the_per_device_batch() -> None:
    one, four = _plan(per_device_batch_size=1, loss_group_size=2), _plan()
    assert [one.items_of(s) for s in range(4)] == [four.items_of(s) for s in range(4)]


def test_left_over_items_are_dropped_and_differ_between_epochs() -> None:
    plan = _plan(num_items=10, epochs=8)
    assert plan.steps_per_epoch == 2
    assert plan.total_steps == 16
    epochs = [plan.items_of(2 * e) + plan.items_of(2 * e + 1) for e in range(8)]
    assert all(len(set(items)) == 8 for items in epochs)
    assert set().union(*epochs) == set(range(10))


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 10), (0.5, 5), (1.25, 12), (0.3, 3), (0.1, 1), (2.999, 29)]
)
def test_fractions_of_an_epoch_are_rounded_down_to_steps(epochs: float, steps: int) -> None:
    assert _plan(num_items=40, epochs=epochs).total_steps == steps


def test_fractional_epoch_counts_items() -> None:
    plan = _plan(num_items=10)
    assert [plan.epoch_at(step) for step in range(4)] == pytest.approx([0, 0.4, 1, 1.4])


def test_end_of_epoch_and_of_run() -> None:
    plan = _plan(num_items=16, epochs=1.5)
    assert [plan.ends_epoch(step) for step in range(6)] == [False] * 3 + [True, False, True]


def test_more_items_in_a_batch_than_in_the_data_is_an_error() -> None:
    with pytest.raises(SettingsError, match="only 3 items"):
        _plan(num_items=3)


def test_less_than_one_step_is_an_error() -> None:
    with pytest.raises(SettingsError, match="less than one step"):
        _plan(num_items=40, epochs=0.05)


def test_learning_rate_is_that_of_a_steps_start_or_middle() -> None:
    start, middle = _plan(), _plan(lr_evaluated_at="middle")
    assert [start.lr_epoch(step) for step in range(4)] == [start.epoch_at(s) for s in range(4)]
    assert [middle.lr_epoch(step) for step in range(4)] == pytest.approx([0.2, 0.6, 1.2, 1.6])
