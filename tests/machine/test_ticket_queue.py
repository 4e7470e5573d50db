"""Protects the order in which jobs get devices: first come, first served, nothing twice."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ademvl.errors import ToolError
from ademvl.machine.ticket_queue import TicketQueue

PROCESSES = multiprocessing.get_context("fork")
SOON = 10.0  # seconds, far more than anything here takes


def job(folder: Path, names, count, events, release, *, name: str) -> None:
    with TicketQueue(folder).taken(names, count=count, job=name, kind="things") as taken:
        events.put((name, taken))
        if release is not None:
            release.wait(60)
    events.put((name, None))


def start(folder: Path, events, names, count=1, *, name: str, release=None):
    """Start a job, and return when it has a ticket or what it wants."""
    before = len(list(folder.glob("*.ticket")))
    process = PROCESSES.Process(
        target=job, args=(folder, names, count, events, release), kwargs={"name": name}
    )
    process.start()
    deadline = time.monotonic() + SOON
    while len(list(folder.glob("*.ticket"))) == before and events.empty():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return process


def is_waiting(events) -> bool:
    time.sleep(0.15)
    return events.empty()


@pytest.fixture
def events():
    return PROCESSES.Queue()


def test_things_are_taken_in_order_of_preference(tmp_path):
    queue = TicketQueue(tmp_path)
    with queue.taken(["a", "b", "c"], count=2, job="x", kind="things") as first:
        assert first == ("a", "b")
        with queue.taken(["a", "b", "c"], count=1, job="y", kind="things") as second:
            assert second == ("c",)
    assert not list(tmp_path.glob("*.ticket"))
    with queue.taken(["a"], count=0, job="x", kind="things") as nothing:
        assert nothing == ()


def test_waiting_jobs_get_their_turn_in_the_order_of_asking(tmp_path, events):
    with TicketQueue(tmp_path).taken(["a", "b"], count=2, job="x", kind="things"):
        waiting = [start(tmp_path, events, ["a", "b"], name=str(n)) for n in range(3)]
        assert is_waiting(events)
    got = [name for name, taken in (events.get(timeout=SOON) for _ in range(6)) if taken]
    assert sorted(got) == ["0", "1", "2"]
    assert got[2] == "2"
    for process in waiting:
        process.join(SOON)


def test_job_that_wants_two_is_not_starved_by_jobs_that_want_one(tmp_path, events):
    release = PROCESSES.Event()
    with TicketQueue(tmp_path).taken(["a"], count=1, job="x", kind="things"):
        both = start(tmp_path, events, ["a", "b"], 2, name="both", release=release)
        one = start(tmp_path, events, ["a", "b"], name="one")  # b is free, but not for those behind
        assert is_waiting(events)
    assert events.get(timeout=SOON) == ("both", ("a", "b"))
    assert is_waiting(events)
    release.set()
    assert {events.get(timeout=SOON)[0] for _ in range(3)} == {"both", "one"}
    both.join(SOON)
    one.join(SOON)


def test_job_that_wants_other_things_passes_by(tmp_path, events):
    with TicketQueue(tmp_path).taken(["a"], count=1, job="x", kind="things"):
        waiting = start(tmp_path, events, ["a"], name="a")
        start(tmp_path, events, ["b"], name="b").join(SOON)
        assert events.get(timeout=SOON) == ("b", ("b",))
        assert events.get(timeout=SOON) == ("b", None)
        assert is_waiting(events)
    waiting.join(SOON)


def test_killed_holder_frees_its_thing_and_a_killed_waiter_its_place(tmp_path, events):
    holder = start(tmp_path, events, ["a"], name="holder", release=PROCESSES.Event())
    assert events.get(timeout=SOON) == ("holder", ("a",))
    waiter = start(tmp_path, events, ["a"], name="waiter")
    last = start(tmp_path, events, ["a"], name="last")
    for process in (waiter, holder):
        process.kill()
        process.join(SOON)
    killed_at = time.monotonic()
    assert events.get(timeout=SOON) == ("last", ("a",))
    assert time.monotonic() - killed_at < 2.0
    last.join(SOON)
    assert not list(tmp_path.glob("*.ticket"))


def test_waiting_job_says_who_has_what_it_wants(tmp_path, caplog):
    caplog.set_level("INFO")
    queue = TicketQueue(tmp_path)
    release = PROCESSES.Event()
    events = PROCESSES.Queue()
    holder = start(tmp_path, events, ["a"], name="runs/adem/seed0", release=release)
    events.get(timeout=SOON)
    PROCESSES.Process(target=lambda: (time.sleep(0.3), release.set())).start()
    with queue.taken(["a"], count=1, job="y", kind="things"):
        pass
    holder.join(SOON)
    said = [record.getMessage() for record in caplog.records]
    expected = f"waiting for 1 of things a: a is used by runs/adem/seed0 (process {holder.pid}, "
    assert said[0].startswith(expected)


def test_three_jobs_of_two_things_each_all_end(tmp_path, events):
    jobs = [
        PROCESSES.Process(
            target=job, args=(tmp_path, names, 2, events, None), kwargs={"name": "".join(names)}
        )
        for names in (["a", "b"], ["b", "c"], ["c", "a"]) * 4
    ]
    for process in jobs:
        process.start()
    got = [events.get(timeout=SOON) for _ in range(2 * len(jobs))]
    assert sum(taken is not None for _, taken in got) == len(jobs)


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
