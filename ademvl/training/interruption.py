"""SIGTERM and SIGINT: leave at once, or after the work in hand is safe."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_RETRY = 75  # EX_TEMPFAIL of sysexits.h: try again, it goes on where it stopped
EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C
EXIT_CODES = {signal.SIGTERM: EXIT_RETRY, signal.SIGINT: EXIT_INTERRUPTED}


class Interruption:
    """Turns SIGTERM (a cluster's time limit) and SIGINT (Ctrl-C) into an orderly end.

    By default a signal ends the process with `SystemExit`. Inside `deferred()` it is only noted in
    `exit_code`, for the loop to look at when a step is complete.

    Args:
        repeated_ends: a second signal ends at once.
    """

    def __init__(self, *, repeated_ends: bool = True) -> None:
        self.exit_code = 0
        self._repeated_ends = repeated_ends
        self._deferred = False

    @contextmanager
    def handled(self) -> Iterator["Interruption"]:
        """Handle the signals in this block; outside of the main thread nothing is handled."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        previous: dict[int, Any] = {
            number: signal.signal(number, self._on_signal) for number in EXIT_CODES
        }
        try:
            yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note signals in this block."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        repeated, self.exit_code = bool(self.exit_code), EXIT_CODES[signal.Signals(number)]
        if (repeated and self._repeated_ends) or not self._deferred:
            raise SystemExit(self.exit_code)
