"""Which items each optimiser step sees: a function of the seed, the epoch and nothing else."""

import random
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ademvl.config.optimization import OptimizationSettings
from ademvl.randomness import derive_seed


@lru_cache(maxsize=2)
def batch_order(num_items: int, *, seed: int, epoch: int) -> tuple[int, ...]:
    """Return a permutation of `num_items` indices that depends on the seed and the epoch only.

    Devices, processes, batch sizes and earlier epochs have no influence on it.
    """
    order = list(range(num_items))
    random.Random(derive_seed(seed, "order", epoch)).shuffle(order)
    return tuple(order)


@dataclass(frozen=True)
class StepPlan:
    """Optimiser steps of a run: how many, at which epoch each starts, which items it sees.

    Each epoch visits the items in a new order, in full effective batches; the items left over at
    its end are dropped, as the left-over micro-batches are in the reference implementation
    (engine.py, train_one_epoch). The order is new in every epoch, so no item is left out for good.

    Attributes:
        num_items: items of the training split.
        seed: of the run; another one gives another order in every epoch.
        optimization: gives `effective_batch_size` and `epochs`.

    Raises:
        SettingsError: not a single full effective batch, or not a single step.
    """

    num_items: int
    seed: int
    optimization: OptimizationSettings

    def __post_init__(self) -> None:
        self.optimization.total_steps(self.num_items)  # refuses too few items

    @cached_property
    def steps_per_epoch(self) -> int:
        """Full effective batches of the items."""
        return self.optimization.steps_per_epoch(self.num_items)

    @cached_property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.optimization.total_steps(self.num_items)

    def epoch_at(self, step: int) -> float:
        """Return the fractional epoch at which step number `step` (from 0) starts."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        return epoch + step_in_epoch * self.optimization.effective_batch_size / self.num_items

    def lr_epoch(self, step: int) -> float:
        """Return the fractional epoch at which the learning rate of step `step` is evaluated.

        That is where the step starts, as in the reference implementation, so that the first step
        of a warm-up has a learning rate of zero; or its middle (`lr_evaluated_at`).
        """
        half = self.optimization.effective_batch_size / self.num_items / 2
        is_middle = self.optimization.lr_evaluated_at == "middle"
        return self.epoch_at(step) + (half if is_middle else 0.0)

    def items_of(self, step: int) -> tuple[int, ...]:
        """Return the indices of the items of step number `step` (from 0), in their order."""
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        first = step_in_epoch * self.optimization.effective_batch_size
        order = batch_order(self.num_items, seed=self.seed, epoch=epoch)
        return order[first : first + self.optimization.effective_batch_size]

    def ends_epoch(self, step: int) -> bool:
        """Tell whether step number `step` (from 0) is the last of its epoch or of the run."""
        return (step + 1) % self.steps_per_epoch == 0 or step + 1 == self.total_steps
