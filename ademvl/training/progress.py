"""How a training shows that it moves: step, loss, items per second and time left."""

from ademvl.machine.progress import Progress


class TrainingProgress(Progress):
    """Shows the steps of a training; the line of the last one is written in any case.

    Args:
        total_steps: optimiser steps of the whole run.
        first_step: steps already done by an earlier process.
        shown: False shows nothing.
    """

    def __init__(self, *, total_steps: int, first_step: int, shown: bool) -> None:
        super().__init__("train", total=total_steps, done=first_step, unit="step", shown=shown)
        self._first_step = first_step
        self._num_items = 0

    def advance(self, step: int, *, loss: float, num_items: int) -> None:
        """Note that `step` steps are done; the last one had this loss and so many items."""
        self._num_items += num_items
        rate = f"{self._num_items / self.seconds:.0f} items/s"

        def line() -> str:
            left = (self.total - step) * self.seconds / (step - self._first_step)
            return f"step {step} of {self.total}, loss {loss:.4f}, {rate}, {left:.0f} s left"

        self.move(step - self.done, line, beside=f"loss {loss:.4f}, {rate}")

    def _is_due(self) -> bool:
        return super()._is_due() or self.done == self.total
