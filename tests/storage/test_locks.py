"""Protects the locks that jobs share: one holder, no stale lock, no lock on a lost file."""

import multiprocessing
import time
from pathlib import Path

import pytest

from ademvl.storage.locks import lock_file, try_lock_file

PROCESSES = multiprocessing.get_context("fork")


def hold(path: Path, ready, seconds: float) -> None:
    with lock_file(path):
        ready.set()
        time.sleep(seconds)


def test_one_alone_or_many_shared(tmp_path):
    path = tmp_path / "a.lock"
    with lock_file(path):
        assert try_lock_file(path) is None
        assert try_lock_file(path, shared=True) is None
    with lock_file(path, shared=True), lock_file(path, shared=True):
        assert try_lock_file(path) is None
    assert try_lock_file(path) is not None


def test_lock_of_a_killed_process_is_free_at_once(tmp_path):
    path, ready = tmp_path / "a.lock", PROCESSES.Event()
    process = PROCESSES.Process(target=hold, args=(path, ready, 60.0))
    process.start()
    assert ready.wait(10)
    assert try_lock_file(path) is None
    process.kill()
    process.join()
    with lock_file(path):
        pass


def test_child_that_ends_does_not_release_its_parents_lock(tmp_path):
    path = tmp_path / "a.lock"
    lock = lock_file(path)
    process = PROCESSES.Process(target=lock.release)
    process.start()
    process.join()
    assert try_lock_file(path) is None
    lock.release()
    assert try_lock_file(path) is not None


def test_lock_on_a_replaced_file_guards_nothing_and_is_taken_anew(tmp_path):
    path, ready = tmp_path / "a.lock", PROCESSES.Event()
    process = PROCESSES.Process(target=hold, args=(path, ready, 0.3))
    process.start()
    assert ready.wait(10)
    replacement = tmp_path / "b.lock"
    replacement.touch()

    waiter = PROCESSES.Process(target=hold, args=(path, PROCESSES.Event(), 0.0))
    waiter.start()
    time.sleep(0.1)
    replacement.replace(path)
    with lock_file(path):
        process.join()
        time.sleep(0.1)
        assert waiter.is_alive()
    waiter.join(10)
    assert waiter.exitcode == 0


def test_missing_file_is_not_made_where_it_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        try_lock_file(tmp_path / "none.lock", create=False)
    assert list(tmp_path.iterdir()) == []
