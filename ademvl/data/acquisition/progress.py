"""How downloads and unpacking show that they move: a bar on a terminal, else a line at times."""

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Self

from ademvl.storage.byte_sizes import format_bytes

_log = logging.getLogger(__name__)

LINE_INTERVAL_SECONDS = 10.0


class ByteProgress:
    """Counts bytes of several threads; shows rate and time left.

    Args:
        verb: what is done, such as `fetched`.
        total_bytes: expected in all, 0 where unknown.
        done_bytes: there already, from an earlier attempt.
    """

    def __init__(self, verb: str, *, total_bytes: int, done_bytes: int = 0) -> None:
        self._verb = verb
        self._total = total_bytes
        self._done = done_bytes
        self._moved = 0
        self._mutex = threading.Lock()
        self._started = self._last_line = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total_bytes or None,
                initial=done_bytes,
                unit="B",
                unit_scale=True,
                desc=verb,
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

    def advance(self, num_bytes: int) -> None:
        """Note bytes that were moved; negative where they have to be moved again."""
        with self._mutex:
            self._done += num_bytes
            self._moved += max(num_bytes, 0)
            if self._bar is not None:
                self._bar.update(num_bytes)
                return
            now = time.monotonic()
            if now - self._last_line >= LINE_INTERVAL_SECONDS:
                self._last_line = now
                _log.info("%s", self._line(now))

    def _line(self, now: float) -> str:
        rate = self._moved / max(now - self._started, 1e-9)
        line = f"{self._verb} {format_bytes(self._done)}"
        if self._total:
            share = 100 * self._done / self._total
            left = max(self._total - self._done, 0) / max(rate, 1e-9)
            line += f" of {format_bytes(self._total)} ({share:.0f} %), {left:.0f} s left"
        return f"{line}, {format_bytes(rate)}/s"
