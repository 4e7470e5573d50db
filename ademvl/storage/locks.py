"""Locks on files that the kernel releases when their holder dies, so that none can go stale.

They are flock(2) locks on an open file. Linux passes them on to the server of a network file system
(NFS since 2.6.12), so that they hold between machines as well; a file system that knows no locks
answers with an OSError (ENOLCK, ENOSYS or EOPNOTSUPP), which is passed on: running without locks
would not be safe.
"""

import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType
from typing import Self

_log = logging.getLogger(__name__)


class FileLock:
    """A held lock; ends with `release`, with the block it guards, or with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._owner = os.getpid()

    def write(self, content: bytes) -> None:
        """Replace the content of the lock file, which says to others who holds it.

        It reaches the server of a network file system at once, so that other machines see it.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path}: the lock was released")
        os.ftruncate(self._descriptor, 0)
        written = 0
        while written < len(content):
            written += os.pwrite(self._descriptor, content[written:], written)
        os.fsync(self._descriptor)

    def release(self) -> None:
        """Let the lock go; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            # A forked child shares the lock: only the process that took it may let it go.
            if os.getpid() == self._owner:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


def lock_file(path: Path, *, shared: bool = False) -> FileLock:
    """Take the lock of `path`, waiting for as long as others hold it; the file is made if missing.

    Args:
        path: lock file in an existing folder.
        shared: many may hold it at once, as long as nobody holds it alone.

    Raises:
        OSError: the file cannot be opened, or its file system knows no locks.
    """
    lock = try_lock_file(path, shared=shared)
    if lock is None:
        _log.debug("waiting for %s, which another job holds", path)
    while lock is None:
        lock = _attempt(path, shared=shared, create=True, wait=True)
    return lock


def try_lock_file(path: Path, *, shared: bool = False, create: bool = True) -> FileLock | None:
    """Take the lock of `path` unless somebody holds it, in which case None is returned at once.

    Raises:
        OSError: the file cannot be opened, or its file system knows no locks; FileNotFoundError
            where it is missing and not to be made.
    """
    return _attempt(path, shared=shared, create=create, wait=False)


def _attempt(path: Path, *, shared: bool, create: bool, wait: bool) -> FileLock | None:
    while True:
        descriptor = _open(path, create=create)
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(descriptor, mode)
            if _is_same_file(path, descriptor):
                return FileLock(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # Between opening and locking the file was removed or replaced: this lock guards nothing.
        os.close(descriptor)


def _open(path: Path, *, create: bool) -> int:
    # In a folder that others may write to, a link must not lead to a file that is none of a lock's.
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        return os.open(path, flags, 0o666)
    except OSError:
        if path.exists() and not os.access(path, os.W_OK):
            return os.open(
                path, os.O_RDONLY | os.O_NOFOLLOW
            )  # another user's file, or a read-only mount
        raise


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
