"""The folder of one feature namespace: its identity, its shards, and who works on what.

    <root>/<namespace>/
      namespace.json       what the features are, for people
      use.lock             held shared by every job that reads or writes; its time is the last use
      index.lock           held alone for the moments in which claims and shards are compared
      shards/*.safetensors finished shards
      shards.log           names of shards that came or went, so that a claim need not list all
      claims/*.claim       images that a running job encodes, locked by that job for its life
      quarantine/          shards found damaged, never read again

Nothing here depends on the order of images or on how jobs divide them.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import socket
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from ademvl.config.run import Precision
from ademvl.errors import CacheError, DiskFullError
from ademvl.storage.files import dump_json, explained_disk_full, write_text
from ademvl.storage.locks import FileLock, lock_file, try_lock_file
from ademvl.vision.features.shards import (
    SUFFIX,
    DamagedShardError,
    ShardHeader,
    Signature,
    read_header,
    signature,
)

_log = logging.getLogger(__name__)

NAMESPACE_FILE = "namespace.json"
USE_LOCK = "use.lock"
CLAIM_SUFFIX = ".claim"
SHARDS_LOG = "shards.log"
_FORMAT = 1
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on, but for the image: a change of any part is another namespace.

    Attributes:
        preprocessing: identity of the way from file to pixels.
        tower: fingerprint of architecture, activation and weights.
        precision: dtype in which features are stored.
        features: which of the tower's states are kept, in words.
    """

    preprocessing: str
    tower: str
    precision: Precision
    features: str

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all parts and of the version of the file format."""
        parts = json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of the namespace's folder: readable, and distinct by the digest in it."""
        readable = re.sub(r"[^A-Za-z0-9]+", "-", self.tower).strip("-")[:32].rstrip("-")
        return f"{readable or 'tower'}-{self.precision}-{self.digest[:16]}"


@contextmanager
def as_cache_errors(folder: Path) -> Iterator[None]:
    """Turn what the system says about the cache's files into a message with a remedy."""
    try:
        yield
    except DiskFullError as error:
        raise CacheError(f"feature cache: {error} A larger disk: shared_dir.") from error
    except OSError as error:
        remedy = "Check the file system, or set shared_dir to another place."
        if error.errno in _FORBIDDEN:
            remedy = "Get write permission there, or set shared_dir to your own folder."
        elif error.errno in _LOCKLESS:
            remedy = (
                "Its file system has no locks, without which jobs cannot share a cache safely: "
                "mount it with locks or set shared_dir to another place."
            )
        where = error.filename or folder
        raise CacheError(f"feature cache {folder}: {error.strerror} ({where}). {remedy}") from error


@dataclass
class Claim:
    """Images that this job alone encodes; others see it until it is released or the job dies."""

    images: tuple[str, ...]
    lock: FileLock


class Namespace:
    """Shards of one key, with an index of which image lies where.

    What a claim takes grows neither with the images that are wanted nor with the shards there are.
    Missing images are kept in order, and leave one by one as shards with them come. Whoever ends a
    claim writes its shard's name into the log; where a job was killed before it could, its claim is
    found without an owner, and the whole folder is listed.

    Methods raise OSError as the system does; callers wrap them in `as_cache_errors`.
    """

    def __init__(self, root: Path, key: FeatureKey) -> None:
        self.key = key
        self.folder = root / key.folder_name
        self.shards = self.folder / "shards"
        self.claims = self.folder / "claims"
        self.headers: dict[str, ShardHeader] = {}
        self.index: dict[str, tuple[str, int]] = {}
        self.shapes: set[tuple[int, ...]] = set()
        self._wanted: tuple[str, ...] = ()
        self._missing: OrderedDict[str, None] = OrderedDict()
        self._log_bytes_read = 0

    def hold(self, *, create: bool) -> FileLock:
        """Keep the namespace from being removed for as long as the lock is held, and note the use.

        Raises:
            CacheError: there is no such namespace and it is not to be made.
        """
        while True:
            if create:
                self.shards.mkdir(parents=True, exist_ok=True)
            elif not self.shards.is_dir():
                raise CacheError(
                    f"feature cache {self.folder}: no features of {self.key.tower} with "
                    f"{self.key.preprocessing}. Run `ademvl features` for this run first."
                )
            try:
                if create and self.is_writable and not self.claims.is_dir():
                    self.claims.mkdir(exist_ok=True)
                    self.claims.chmod(self.shards.stat().st_mode & 0o7777)  # shared with the same
                lock = lock_file(self.folder / USE_LOCK, shared=True)
            except FileNotFoundError:
                continue  # removed between the two lines, as not used for long
            if os.access(lock.path, os.W_OK):
                os.utime(lock.path)
            return lock

    def prepare(self) -> None:
        """Write the description, and clear away what killed jobs left behind."""
        with self._alone():
            description = self.folder / NAMESPACE_FILE
            text = dump_json({"format": _FORMAT, "sha256": self.key.digest, **asdict(self.key)})
            if not description.is_file() or description.read_bytes() != text.encode():
                write_text(description, text)
            if self._claimed() == set():
                for leftover in self.leftovers():
                    leftover.unlink(missing_ok=True)

    def leftovers(self) -> list[Path]:
        """Temporary files: of no use to anyone unless a claim is alive."""
        return [*self.folder.glob(".*.tmp"), *self.shards.glob(".*.tmp")]

    @property
    def is_writable(self) -> bool:
        """Whether this user may add shards; without that, whole ones can be read all the same."""
        return os.access(self.shards, os.W_OK)

    def refresh(self) -> None:
        """Bring the index up to date with the folder; a file that is no shard is put away."""
        with self._alone() if self.is_writable else nullcontext():
            self._scan()

    def image_bytes(self, image: str) -> int:
        """Return the size of an indexed image's features."""
        return self.headers[self.index[image][0]].image_bytes

    def quarantine(self, name: str, problem: str, seen: Signature) -> None:
        """Put a damaged shard away, unless another job has replaced it since it was looked at."""
        self._forget({name})
        if not self.is_writable:
            _log.warning("%s: damaged shard ignored: %s", self.shards / name, problem)
            return
        try:
            with self._alone():
                if signature(self.shards / name) == seen:
                    self._put_away(name, problem)
        except FileNotFoundError:
            return  # another job was faster

    def want(self, images: Sequence[str]) -> int:
        """Say which images `claim` is to claim, in this order; return how many are missing."""
        self._wanted = tuple(images)
        self._find_missing()
        return len(self._missing)

    def claim(self, *, limit: int) -> tuple[Claim | None, int]:
        """Claim up to `limit` of the wanted images that nobody has encoded or claimed.

        Returns:
            The claim, None where there is nothing to claim now, and how many images are missing
            yet.
        """
        path = self.claims / f"{uuid.uuid4().hex}{CLAIM_SUFFIX}"
        with self._alone():
            # The new file makes a client of a network file system list the folder afresh.
            lock = lock_file(path)
            try:
                self._catch_up()
                claimed = self._claimed(but=path.name) if self._missing else set()
                if claimed is not None:
                    free = (image for image in self._missing if image not in claimed)
                    if images := tuple(islice(free, limit)):
                        owner = {"host": socket.gethostname(), "pid": os.getpid(), "images": images}
                        lock.write(json.dumps(owner).encode())
                        return Claim(images, lock), len(self._missing)
            except BaseException:
                self._drop(lock)
                raise
            self._drop(lock)
            return None, len(self._missing)

    def release(self, claim: Claim, shard: Path | None) -> None:
        """End a claim; its images are in `shard` by now, or nowhere."""
        with self._alone():
            try:
                if shard:
                    self._note(shard.name)
            finally:
                self._drop(claim.lock)

    def _scan(self) -> None:
        """Bring the index up to date with the folder."""
        log = self.folder / SHARDS_LOG
        self._log_bytes_read = log.stat().st_size if log.is_file() else 0
        present = {entry.name for entry in os.scandir(self.shards) if entry.name.endswith(SUFFIX)}
        self._add(present)
        self._forget(self.headers.keys() - present)

    def _catch_up(self) -> None:
        """Bring the index up to date with what the log says has changed. Needs `_alone`."""
        log = self.folder / SHARDS_LOG
        if not log.is_file():
            return
        with log.open("rb") as stream:
            stream.seek(self._log_bytes_read)
            added = stream.read()
        self._log_bytes_read += len(added)
        written = added.decode(errors="replace").split()
        names = {name for name in written if name.endswith(SUFFIX) and "/" not in name}
        gone = {name for name in names & self.headers.keys() if not (self.shards / name).is_file()}
        self._forget(gone)
        self._add(names)

    def _note(self, name: str) -> None:
        """Tell other jobs that a shard came or went. Needs `_alone`."""
        # Without permission for another user's log, others may encode images once more, no worse.
        with (
            contextlib.suppress(PermissionError),
            explained_disk_full(self.folder / SHARDS_LOG),
            (self.folder / SHARDS_LOG).open("a", encoding="utf-8") as stream,
        ):
            stream.write(f"\n{name}\n")  # the line before may be half of one

    def _add(self, names: Collection[str]) -> None:
        for name in sorted(set(names) - self.headers.keys()):
            try:
                header = read_header(self.shards / name, self.key.digest, self.key.precision)
            except DamagedShardError as error:
                self._put_away(name, str(error))
            except FileNotFoundError:
                pass
            else:
                self.headers[name] = header
                self.shapes.add(header.shape[1:])
                self._index(name)

    def _alone(self) -> FileLock:
        return lock_file(self.folder / "index.lock")

    def _drop(self, lock: FileLock) -> None:
        lock.path.unlink(missing_ok=True)
        lock.release()

    def _claimed(self, *, but: str = "") -> set[str] | None:
        """Images under a living claim; claims of dead jobs are removed. Needs `_alone`.

        None where a living claim cannot be read, as its bytes have not got here yet.
        """
        images: set[str] = set()
        for path in self.claims.glob(f"*{CLAIM_SUFFIX}"):
            if path.name == but:
                continue
            dead = try_lock_file(path, create=False)
            if dead is None:
                try:
                    images.update(json.loads(path.read_bytes())["images"])
                except ValueError:
                    return None
            else:
                _log.info("%s: taking over from a job that has ended", path)
                self._drop(dead)
                self._scan()  # it may have been killed behind its shard
        return images

    def _put_away(self, name: str, problem: str) -> None:
        damaged = self.shards / name
        if not self.is_writable:
            _log.warning("%s: damaged shard ignored: %s", damaged, problem)
            return
        (self.folder / "quarantine").mkdir(exist_ok=True)
        damaged.replace(self.folder / "quarantine" / name)
        self._note(name)
        _log.warning(
            "%s: damaged shard put away, its images are encoded anew: %s", damaged, problem
        )

    def _index(self, name: str) -> None:
        for row, image in enumerate(self.headers[name].images):
            self.index.setdefault(image, (name, row))
            self._missing.pop(image, None)

    def _forget(self, names: set[str]) -> None:
        if not names:
            return
        for name in names:
            self.headers.pop(name, None)
        self.index.clear()
        for name in self.headers:
            self._index(name)
        self._find_missing()

    def _find_missing(self) -> None:
        self._missing = OrderedDict.fromkeys(
            image for image in self._wanted if image not in self.index
        )
