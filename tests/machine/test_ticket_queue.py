"""Protects the order in which jobs get devices: first come, first served, nothing twice."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from ademvl.errors import ToolError
from ademvl.machine.ticket_queue import TicketQueue
from tests.waiting import DEADLINE_SECONDS, finish

PROCESSES = multiprocessing.get_context("fork")


def _take_when_told(
    folder: Path, names: Sequence[str], count: int, name: str, line: Connection
) -> None:
    def wait_to_be_told(_seconds: float) -> None:
        line.send(None)
        line.recv()

    time.sleep = wait_to_be_told
    with TicketQueue(folder).taken(names, count=count, job=name, kind="things") as taken:
        line.send(taken)
        line.recv()


class Job:
    """A job in a process of its own, which looks whether it is its turn only when it is told to.

    Attributes:
        has: what it got; None while it waits.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], count: int = 1, *, name: str = "job"
    ) -> None:
        self._line, its_end = PROCESSES.Pipe()
        self.process = PROCESSES.Process(
            target=_take_when_told, args=(folder, names, count, name, its_end), daemon=True
        )
        self.process.start()
        its_end.close()
        self.has = self._hear()

    def look(self) -> tuple[str, ...] | None:
        """Let it look once more; return what it has then."""
        self._line.send("look")
        self.has = self._hear()
        return self.has

    def end(self) -> None:
        """Let it release what it has."""
        assert self.has
        self._line.send("end")
        assert finish(self.process) == [0]

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def _hear(self) -> tuple[str, ...] | None:
        assert self._line.poll(DEADLINE_SECONDS), "the job is silent"
        return self._line.recv()


def test_things_are_taken_in_order_of_preference(tmp_path):
    queue = TicketQueue(tmp_path)
    with queue.taken(["a", "b", "c"], count=2, job="x", kind="things") as first:
        assert first == ("a", "b")
        with queue.taken(["a", "b", "c"], count=1, job="y", kind="things") as second:
            assert second == ("c",)
    assert not list(tmp_path.glob("*.ticket"))
    with queue.taken(["a"], count=0, job="x", kind="things") as nothing:
        assert nothing == ()


def test_waiting_jobs_get_their_turn_in_the_order_of_asking(tmp_path):
    with TicketQueue(tmp_path).taken(["a", "b"], count=2, job="x", kind="things"):
        first, second, third = jobs = [Job(tmp_path, ["a", "b"]) for _ in range(3)]
        assert [job.has for job in jobs] == [None] * 3
    assert third.look() is None
    assert second.look() is None
    assert first.look() == ("a",)
    assert third.look() is None
    assert second.look() == ("b",)
    assert third.look() is None
    second.end()
    assert third.look() == ("b",)
    first.end()
    third.end()


def test_job_that_wants_two_is_not_starved_by_jobs_that_want_one(tmp_path):
    with TicketQueue(tmp_path).taken(["a"], count=1, job="x", kind="things"):
        both = Job(tmp_path, ["a", "b"], 2)
        one = Job(tmp_path, ["a", "b"])
        assert both.has is None
        assert one.has is None  # b is free, but not for those behind
    assert one.look() is None
    assert both.look() == ("a", "b")
    assert one.look() is None
    both.end()
    assert one.look() == ("a",)
    one.end()


def test_job_that_wants_other_things_passes_by(tmp_path):
    with TicketQueue(tmp_path).taken(["a"], count=1, job="x", kind="things"):
        waiting = Job(tmp_path, ["a"])
        passing = Job(tmp_path, ["b"])
        assert passing.has == ("b",)
        passing.end()
        assert waiting.look() is None
    assert waiting.look() == ("a",)
    waiting.end()


def test_killed_holder_frees_its_thing_and_a_killed_waiter_its_place(tmp_path):
    holder, waiter, last = (Job(tmp_path, ["a"]) for _ in range(3))
    assert [holder.has, waiter.has, last.has] == [("a",), None, None]
    waiter.kill()
    assert last.look() is None
    holder.kill()
    assert last.look() == ("a",)
    last.end()
    assert not list(tmp_path.glob("*.ticket"))


def test_waiting_job_says_who_has_what_it_wants(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    holder = Job(tmp_path, ["a"], name="runs/adem/seed0")
    monkeypatch.setattr(time, "sleep", lambda _: holder.end())
    with TicketQueue(tmp_path).taken(["a"], count=1, job="y", kind="things") as taken:
        assert taken == ("a",)
    said = [record.getMessage() for record in caplog.records]
    pid = holder.process.pid
    expected = f"waiting for 1 of things a: a is used by runs/adem/seed0 (process {pid}, "
    assert said[0].startswith(expected)


def _take_alone(folder: Path, names: Sequence[str]) -> None:
    with TicketQueue(folder).taken(names, count=len(names), job="x", kind="things"):
        used = [folder / f"{name}.used" for name in names]
        for path in used:
            path.mkdir()  # which fails where another job has made it
        for path in used:
            path.rmdir()


def test_three_jobs_of_two_things_each_all_end(tmp_path):
    jobs = [
        PROCESSES.Process(target=_take_alone, args=(tmp_path, names))
        for names in (["a", "b"], ["b", "c"], ["c", "a"]) * 4
    ]
    for job in jobs:
        job.start()
    assert finish(*jobs) == [0] * len(jobs)


def test_lock_files_are_open_to_all_users_whatever_the_umask(tmp_path):
    folder = tmp_path / "locks"
    mask = os.umask(0o077)
    try:
        with TicketQueue(folder).taken(["a"], count=1, job="x", kind="things"):
            modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    finally:
        os.umask(mask)
    assert modes == {"a.lock": 0o666, "queue.lock": 0o666}
    assert folder.stat().st_mode & 0o777 == 0o777


def test_link_in_place_of_a_lock_is_not_followed(tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "locks"
    victim.write_text("precious")
    queue = TicketQueue(folder)
    (folder / "a.lock").symlink_to(victim)
    with (
        pytest.raises(OSError, match="symbolic links"),
        queue.taken(["a"], count=1, job="x", kind="things"),
    ):
        pass
    assert victim.read_text() == "precious"


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match=r"file/locks: .*ADEMVL_GPU_LOCKS"):
        TicketQueue(tmp_path / "file" / "locks")
