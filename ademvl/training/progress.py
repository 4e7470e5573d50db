"""How a training shows that it moves: a bar on a terminal, else a line every ten seconds."""

import logging
import sys
import time
from types import TracebackType
from typing import Self

_log = logging.getLogger(__name__)

LINE_INTERVAL_SECONDS = 10.0


class TrainingProgress:
    """Shows step, loss, items per second and time left.

    Args:
        total_steps: optimiser steps of the whole run.
        first_step: steps already done by an earlier process.
        shown: False shows nothing.
    """

    def __init__(self, *, total_steps: int, first_step: int, shown: bool) -> None:
        self._total_steps = total_steps
        self._first_step = first_step
        self._shown = shown
        self._bar = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total_steps, initial=first_step, unit="step", desc="train", file=sys.stderr
            )
        self._started = self._last_line = time.monotonic()
        self._num_items = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, step: int, *, loss: float, num_items: int) -> None:
        """Note that `step` steps are done; the last one had this loss and so many items."""
        now = time.monotonic()
        self._num_items += num_items
        seconds = max(now - self._started, 1e-9)
        items_per_second = self._num_items / seconds
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {loss:.4f}, {items_per_second:.0f} items/s", refresh=False
            )
            self._bar.update()
        elif self._shown and (
            now - self._last_line >= LINE_INTERVAL_SECONDS or step == self._total_steps
        ):
            self._last_line = now
            left = (self._total_steps - step) * seconds / (step - self._first_step)
            _log.info(
                "step %d of %d, loss %.4f, %.0f items/s, %.0f s left",
                step,
                self._total_steps,
                loss,
                items_per_second,
                left,
            )
