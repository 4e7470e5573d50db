"""SIGTERM and SIGINT: leave at once, or after the work in hand is safe.

Python calls a handler between two of its own steps, and never while it waits inside of torch for
another process. There a thread that hears of the signal ends the process.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
        is_alone: whether no other process trains with this one. One of several hears of a signal
            several times: a second one ends at once only where it is alone. It waits inside of
            torch for the others, which a signal ends, too, unless it is deferred.
    """

    def __init__(self, *, is_alone: bool = True) -> None:
        self.exit_code = 0
        self._is_alone = is_alone
        self._deferred = False
        self._told: socket.socket | None = None  # for the thread that ends waits

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
            with nullcontext() if self._is_alone else self._ending_waits():
                yield self
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note signals in this block."""
        self._deferred = True
        if self._told:
            signal.set_wakeup_fd(-1)
        try:
            yield
        finally:
            self._deferred = False
            if self._told:
                signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)

    @contextmanager
    def _ending_waits(self) -> Iterator[None]:
        """Let signals that are not deferred end the process in whatever it waits."""
        hearing, self._told = socket.socketpair()
        self._told.setblocking(False)  # as set_wakeup_fd wants it
        previous = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=_end_at_signals, args=(hearing,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            self._told.close()
            self._told = None
            thread.join()
            hearing.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        repeated, self.exit_code = bool(self.exit_code), EXIT_CODES[signal.Signals(number)]
        if (repeated and self._is_alone) or not self._deferred:
            raise SystemExit(self.exit_code)


def _end_at_signals(hearing: socket.socket) -> None:
    """End the process at once: its locks go with it, and no file is written by halves."""
    while number := hearing.recv(1):
        if number[0] in EXIT_CODES:
            os._exit(EXIT_CODES[signal.Signals(number[0])])
