"""How long work shows that it moves: a bar on a terminal, else a line in the log at times."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

_log = logging.getLogger(__name__)


class Progress:
    """Counts what is done; several threads may share it. What a line says, derived classes know.

    Args:
        task: what is done, in a word or two; stands beside the bar.
        total: expected in all, 0 where unknown.
        done: there already, from an earlier attempt.
        unit: word for one of what is counted, beside the bar's rate.
        line_every_seconds: time between two lines where there is no terminal.
        shown: False shows nothing, neither bar nor lines.
        scaled: the bar tells numbers by k, M and G.
    """

    def __init__(
        self,
        task: str,
        *,
        total: int,
        done: int = 0,
        unit: str,
        line_every_seconds: float = 10.0,
        shown: bool = True,
        scaled: bool = False,
    ) -> None:
        self.task, self.total, self.done, self.moved = task, total, done, 0
        self._tells_lines = shown
        self._line_every_seconds = line_every_seconds
        self._mutex = threading.Lock()
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if shown and sys.stderr.isatty():
            # tqdm shares a lock with forked processes, one of which may be killed while it holds
            # it: without a terminal it is not touched at all.
            from tqdm import tqdm

            self._bar = tqdm(
                total=total or None,
                initial=done,
                unit=unit,
                unit_scale=scaled,
                desc=task,
                file=sys.stderr,
            )

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

    @property
    def seconds(self) -> float:
        """Seconds in which `moved` was done, never zero."""
        return max(time.monotonic() - self._started, 1e-9)

    def move(self, amount: int, line: Callable[[], str], *, beside: str = "") -> None:
        """Count what was done, and show it.

        Args:
            amount: that was done; negative where it has to be done again.
            line: says it for the log; called where a line is due.
            beside: more to tell beside the bar.
        """
        with self._mutex:
            self.done += amount
            self.moved += max(amount, 0)
            if self._bar is not None:
                if beside:
                    self._bar.set_postfix_str(beside, refresh=False)
                self._bar.update(amount)
            elif self._tells_lines and self._is_due():
                self._last_line = time.monotonic()
                _log.info("%s", line())

    def _is_due(self) -> bool:
        return time.monotonic() - self._last_line >= self._line_every_seconds
