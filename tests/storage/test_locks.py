"""Protects the locks that jobs share: one holder, no stale lock, no lock on a lost file."""

import fcntl
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ademvl.storage.locks import lock_file, try_lock_file
from tests.waiting import DEADLINE_SECONDS, finish

PROCESSES = multiprocessing.get_context("fork")


def _lock_and_tell(path: Path, line: Connection) -> None:
    """Take a lock, telling when it is waited for and when it is held; keep it until told to go."""
    flock = fcntl.flock

    def telling_flock(descriptor: int, mode: int) -> None:
        if mode in (fcntl.LOCK_SH, fcntl.LOCK_EX):
            line.send("waits")  # for the file that is open now, whatever becomes of its name
        flock(descriptor, mode)

    fcntl.flock = telling_flock
    with lock_file(path):
        line.send("holds")
        line.recv()


class Other:
    """Another process that takes a lock."""

    def __init__(self, path: Path) -> None:
        self._line, its_end = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=_lock_and_tell, args=(path, its_end), daemon=True)
        self.process.start()
        its_end.close()

    def hear(self) -> str:
        """Return what it tells next."""
        assert self._line.poll(DEADLINE_SECONDS), "the other process is silent"
        return self._line.recv()

    def end(self) -> None:
        """Let it release the lock and end."""
        self._line.send("go")
        assert finish(self.process) == [0]


def test_one_alone_or_many_shared(tmp_path):
    path = tmp_path / "a.lock"
    with lock_file(path):
        assert try_lock_file(path) is None
        assert try_lock_file(path, shared=True) is None
    with lock_file(path, shared=True), lock_file(path, shared=True):
        assert try_lock_file(path) is None
    assert try_lock_file(path) is not None


def test_one_that_waits_gets_the_lock_when_it_is_released(tmp_path):
    path = tmp_path / "a.lock"
    with lock_file(path):
        waiter = Other(path)
        assert waiter.hear() == "waits"
    assert waiter.hear() == "holds"
    assert try_lock_file(path) is None
    waiter.end()


def test_lock_of_a_killed_process_is_free_at_once(tmp_path):
    path = tmp_path / "a.lock"
    holder = Other(path)
    assert holder.hear() == "holds"
    assert try_lock_file(path) is None
    holder.process.kill()
    holder.process.join()
    assert try_lock_file(path) is not None


def test_child_that_ends_does_not_release_its_parents_lock(tmp_path):
    path = tmp_path / "a.lock"
    lock = lock_file(path)
    process = PROCESSES.Process(target=lock.release)
    process.start()
    assert finish(process) == [0]
    assert try_lock_file(path) is None
    lock.release()
    assert try_lock_file(path) is not None


def test_lock_on_a_replaced_file_guards_nothing_and_is_taken_anew(tmp_path):
    path, replacement = tmp_path / "a.lock", tmp_path / "b.lock"
    replacement.touch()
    holder = Other(path)
    assert holder.hear() == "holds"
    waiter = Other(path)
    assert waiter.hear() == "waits"
    replacement.replace(path)
    with lock_file(path):
        holder.end()  # the waiter gets the lock of the replaced file, and must not be content
        assert waiter.hear() == "waits"
    assert waiter.hear() == "holds"
    waiter.end()


def test_missing_file_is_not_made_where_it_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        try_lock_file(tmp_path / "none.lock", create=False)
    assert list(tmp_path.iterdir()) == []
