"""Protects the orderly end: signals end at once, or are noted while work is in hand."""

import os
import signal
import threading

import pytest

from ademvl.training.interruption import EXIT_INTERRUPTED, EXIT_RETRY, Interruption


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
