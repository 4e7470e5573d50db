"""Waiting in tests: for what can be seen, never for a time that a busy machine may exceed."""

import subprocess
import time
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess

import pytest

Watched = BaseProcess | subprocess.Popen[str] | subprocess.Popen[bytes]
DEADLINE_SECONDS = 300.0
"""Nothing here takes nearly as long, on however busy a machine: only what hangs meets it."""
_LOOK_SECONDS = 0.005


def wait_until(
    is_so: Callable[[], object],
    what: str,
    *,
    processes: Iterable[Watched] = (),
    deadline_seconds: float = DEADLINE_SECONDS,
) -> None:
    """Return as soon as `is_so` holds; fail with what never happened.

    Args:
        is_so: looks.
        what: is waited for, as a claim.
        processes: do it; when one of them has ended without it, it is not waited for any longer.
        deadline_seconds: after which something hangs.
    """
    watched = list(processes)
    deadline = time.monotonic() + deadline_seconds
    while True:
        ended = [code for process in watched if (code := _exit_code(process)) is not None]
        if is_so():  # looked at after the processes, so that what they did last counts
            return
        if ended:
            pytest.fail(f"a process ended with {ended[0]} before this was so: {what}")
        if time.monotonic() > deadline:
            pytest.fail(f"after {deadline_seconds:.0f} s this is not so: {what}")
        time.sleep(_LOOK_SECONDS)


def finish(*processes: BaseProcess, deadline_seconds: float = DEADLINE_SECONDS) -> list[int]:
    """Wait for processes to end; return their exit codes."""
    for process in processes:
        process.join(deadline_seconds)
        if process.exitcode is None:
            pytest.fail(f"process {process.pid} has not ended after {deadline_seconds:.0f} s")
    return [process.exitcode for process in processes if process.exitcode is not None]


def _exit_code(process: Watched) -> object:
    return process.poll() if isinstance(process, subprocess.Popen) else process.exitcode
