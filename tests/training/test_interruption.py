"""Protects the orderly end: signals end at once, or are noted while work is in hand."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from ademvl.training.interruption import EXIT_INTERRUPTED, EXIT_RETRY, Interruption
from tests.conftest import PROJECT_ROOT


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, EXIT_RETRY), (signal.SIGINT, EXIT_INTERRUPTED)]
)
def test_signal_ends_the_process_with_its_code(number: signal.Signals, code: int) -> None:
    with Interruption().handled(), pytest.raises(SystemExit) as raised:
        os.kill(os.getpid(), number)
    assert raised.value.code == code


def test_deferred_signal_is_noted_and_a_second_one_ends_at_once() -> None:
    interruption = Interruption()
    with interruption.handled(), interruption.deferred():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.exit_code == EXIT_RETRY
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption().handled():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


_WAIT_OUTSIDE_OF_PYTHON = """
import ctypes
from ademvl.training.interruption import Interruption
lock = ctypes.create_string_buffer(128)  # zeros are a free lock
with Interruption(is_alone=False).handled():
    print("waits", flush=True)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(lock)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, EXIT_RETRY), (signal.SIGINT, EXIT_INTERRUPTED)]
)
def test_one_of_several_is_ended_in_waits_outside_of_python(
    number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-c", _WAIT_OUTSIDE_OF_PYTHON]
    environ = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(number)
        assert process.wait() == code


def test_one_of_several_only_notes_what_is_deferred_and_leaves_no_thread() -> None:
    threads = threading.active_count()
    interruption = Interruption(is_alone=False)
    with interruption.handled(), interruption.deferred():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.exit_code == EXIT_RETRY
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads
    assert signal.set_wakeup_fd(-1) == -1


def test_other_threads_handle_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def work() -> None:
        with Interruption().handled():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
