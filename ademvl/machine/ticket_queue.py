"""Named things that jobs of one machine take whole, in the order in which they asked.

    <folder>/queue.lock       held for the moment in which a job gets its number
    <folder>/<number>.ticket  a job that waits, locked by it for as long as it does
    <folder>/<name>.lock      a thing, locked by the job that has it

All locks end with the process that holds them, so a killed job frees its things at once. Of the
jobs that want some of the same things only the one with the lowest number takes any: nobody is
overtaken, and two jobs that want several things each cannot block one another.
"""

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from ademvl.errors import ToolError
from ademvl.storage.locks import FileLock, lock_file, try_lock_file

_log = logging.getLogger(__name__)

_TICKET = ".ticket"
_POLL_SECONDS = (0.05, 0.5)
_SAY_SECONDS = 30.0


@dataclass(frozen=True)
class Holder:
    """What a job says of itself to those who wait for it."""

    job: str
    pid: int
    since: str

    @classmethod
    def present(cls, job: str) -> "Holder":
        """Describe the present process."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(job=job, pid=os.getpid(), since=now)

    def __str__(self) -> str:
        return f"{self.job} (process {self.pid}, since {self.since})"


@dataclass(frozen=True)
class _Wish:
    """What a waiting job wants."""

    names: tuple[str, ...]
    count: int
    kind: str


class TicketQueue:
    """Things in one folder, which all users of the machine may share.

    Args:
        folder: made if it is missing, open to all users.

    Raises:
        ToolError: the folder cannot be made, or is not open to this user.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            with _open_to_all():
                folder.mkdir(parents=True, exist_ok=True)
            is_open = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        except OSError:
            is_open = False
        if not is_open:
            raise ToolError(
                f"{folder}: jobs take their turn by lock files there, but this user may not write "
                "to it. Give it the mode 777, or name another folder for all users of this "
                "machine in the environment variable ADEMVL_GPU_LOCKS"
            )

    @contextmanager
    def taken(
        self, names: Sequence[str], *, count: int, job: str, kind: str
    ) -> Iterator[tuple[str, ...]]:
        """Hold `count` of the things in `names` for the block, waiting for them in order.

        Args:
            names: the things that would do, in order of preference; they become file names.
            count: how many are wanted, at most as many as there are names.
            job: what the job is, for those who wait for it.
            kind: what the things are, for the log.

        Yields:
            The names of the things taken, in the order of `names`.

        Raises:
            ValueError: more are wanted than there are.
            OSError: the folder's file system has no locks, or is full.
        """
        if not 0 <= count <= len(names):
            raise ValueError(f"{count} of {len(names)} {kind}")
        held: dict[str, FileLock] = {}
        try:
            if count:
                wish = _Wish(tuple(names), count, kind)
                number, ticket = self._draw(wish, job)
                try:
                    self._wait(number, wish, held)
                    for lock in held.values():
                        _describe(lock, job)
                finally:
                    ticket.path.unlink(missing_ok=True)
                    ticket.release()
            yield tuple(name for name in names if name in held)
        finally:
            for lock in held.values():
                lock.release()

    def _draw(self, wish: _Wish, job: str) -> tuple[int, FileLock]:
        """Get the next number; the ticket is complete and locked before others can look at it."""
        with self._lock("queue.lock"):
            number = 1 + max((number for number, _ in self._tickets()), default=0)
            ticket = self._lock(f"{number:08d}{_TICKET}")
            content = {"names": wish.names, "holder": asdict(Holder.present(job))}
            ticket.write(json.dumps(content).encode())
            return number, ticket

    def _tickets(self) -> list[tuple[int, Path]]:
        paths = self._folder.glob(f"*{_TICKET}")
        return sorted((int(path.stem), path) for path in paths if path.stem.isdecimal())

    def _wait(self, number: int, wish: _Wish, held: dict[str, FileLock]) -> None:
        """Take things into `held` as they become free, once nobody who came earlier wants them."""
        pause, said, say_at = _POLL_SECONDS[0], "", time.monotonic()
        while True:
            reason = self._ahead(number, wish) or self._take(wish, held)
            if not reason:
                return
            if reason != said and time.monotonic() >= say_at:
                _log.info(
                    "waiting for %d of %s %s: %s",
                    wish.count,
                    wish.kind,
                    ", ".join(wish.names),
                    reason,
                )
                said, say_at = reason, time.monotonic() + _SAY_SECONDS
            time.sleep(pause)
            pause = min(2 * pause, _POLL_SECONDS[1])

    def _ahead(self, number: int, wish: _Wish) -> str:
        """Say which living jobs with lower numbers want some of the same; empty if none does."""
        found = []
        for other, path in self._tickets():
            if other >= number:
                break
            with suppress(FileNotFoundError):  # it has got what it wanted
                dead = try_lock_file(path, create=False)
                if dead is not None:
                    path.unlink(missing_ok=True)
                    dead.release()
                    continue
                content = json.loads(path.read_bytes())
                if not set(wish.names).isdisjoint(content["names"]):
                    found.append(str(Holder(**content["holder"])))
        return f"behind {_listed(found)}" if found else ""

    def _take(self, wish: _Wish, held: dict[str, FileLock]) -> str:
        """Take what is free; say what is in use, or nothing where `held` is complete."""
        for name in wish.names:
            if len(held) == wish.count:
                return ""
            if name not in held and (lock := try_lock_file(self._made(f"{name}.lock"))):
                held[name] = lock
        if len(held) == wish.count:
            return ""
        others = [name for name in wish.names if name not in held]
        return _listed(f"{name} is used by {self._holder(name)}" for name in others)

    def _holder(self, name: str) -> str:
        try:
            content = json.loads((self._folder / f"{name}.lock").read_bytes())
            return str(Holder(**content))
        except (OSError, ValueError, TypeError):
            return "another job"

    def _lock(self, name: str) -> FileLock:
        return lock_file(self._made(name))

    def _made(self, name: str) -> Path:
        """Return a lock file's path; it exists, and all users may open it."""
        path = self._folder / name
        with _open_to_all():
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666))
        return path


@contextmanager
def _open_to_all() -> Iterator[None]:
    """Make files in this block that all users may write to, whatever the umask."""
    mask = os.umask(0)
    try:
        yield
    finally:
        os.umask(mask)


def _describe(lock: FileLock, job: str) -> None:
    with suppress(OSError):  # another user's file: the lock counts, not what stands in it
        lock.write(json.dumps(asdict(Holder.present(job))).encode())


def _listed(texts: Iterable[str]) -> str:
    """Join texts, the first three and a count of the rest."""
    found = list(texts)
    rest = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + rest
