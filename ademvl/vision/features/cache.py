"""Content-addressed cache of image features: encode once, read fast, never read what is damaged.

Many jobs may fill and read one cache at once and be killed at any moment. A job claims as many
missing images as one shard holds, encodes them, and publishes the shard by one rename; a claim ends
with the process that holds it. What a killed job loses is the shard it was working on.

Every shard's checksum is compared once per `FeatureCache`, before its first byte is used; processes
that train together compare a share each. A damaged shard is put away and its images are encoded
anew by the next `ensure`.
"""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

from ademvl.errors import CacheError, list_findings
from ademvl.storage.byte_sizes import format_bytes
from ademvl.vision.features.encoding import EncodeJob
from ademvl.vision.features.image_digests import THREADS, digest_images
from ademvl.vision.features.image_progress import ImageProgress
from ademvl.vision.features.namespace import Claim, FeatureKey, Namespace, as_cache_errors
from ademvl.vision.features.process_group import ProcessGroup
from ademvl.vision.features.reader import FeatureReader
from ademvl.vision.features.shards import (
    DamagedShardError,
    Signature,
    check_bytes,
    map_features,
    signature,
    write_shard,
)

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

SHARD_IMAGES = 128
"""Images of a shard and of a claim: 64 MiB of CLIP ViT-L/14 features in fp16."""
_MAX_ENCODINGS = 3
"""Of one image in one job: a device that damages all it is given must not be fed for ever."""
_POLL_SECONDS = (0.05, 1.0)


@dataclass(frozen=True)
class EnsureReport:
    """What `FeatureCache.ensure` found and did.

    Attributes:
        num_images: paths asked for.
        num_unique: different images among them, by content.
        num_encoded: images that this call encoded; again, where a shard was damaged meanwhile.
        bytes: size of the features of all images asked for.
    """

    num_images: int
    num_unique: int
    num_encoded: int
    bytes: int


class FeatureCache:
    """Features of one key below a folder that any number of keys, studies and users may share.

    Args:
        root: folder of all namespaces.
        key: what the features depend on besides the image.
        shard_images: images of a shard and of a claim.
        processes: those that make the same calls of `ensure` and `open` with the same images; each
            reads a share of images and shards.
    """

    def __init__(
        self,
        root: Path,
        key: FeatureKey,
        *,
        shard_images: int = SHARD_IMAGES,
        processes: ProcessGroup | None = None,
    ) -> None:
        if shard_images < 1:
            raise ValueError(f"shard_images must be at least 1, not {shard_images}")
        self.key = key
        self._namespace = Namespace(root, key)
        self._shard_images = shard_images
        self._processes = processes
        self._digests: dict[Path, str] = {}
        self._checked: set[str] = set()

    @property
    def folder(self) -> Path:
        """Folder of this key's namespace."""
        return self._namespace.folder

    def ensure(
        self,
        images: Sequence[Path],
        encode: Callable[[Sequence[Path]], "Tensor"],
        *,
        batch_size: int,
        progress: bool,
        announce: Callable[[Sequence[Path]], None] | None = None,
        image_bytes: int = 0,
    ) -> EnsureReport:
        """Encode the images that are not in the cache, and rebuild those of damaged shards.

        Images that other running jobs are encoding are waited for; if such a job dies, its images
        are taken over.

        Args:
            images: image files, duplicates allowed.
            encode: from paths to features (n, N, C) of any floating dtype, on any device.
            batch_size: most paths given to one call of `encode`.
            progress: show a progress bar on a terminal, else a line in the log now and then.
            announce: told all paths of a claim before the first of them is encoded, in the order
                in which they will be, so that `encode` can prepare ahead.
            image_bytes: size of an image's features, with which the room on the disk is looked at
                before anything is encoded; 0 does not look.

        Raises:
            CacheError: the disk is too small, the cache cannot be written, or features are not
                finite in its precision.
            DataError: image files cannot be read.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        digests = self._digest(images, progress=progress)
        sources = {digest: path for path, digest in reversed(digests.items())}
        wanted = list(dict.fromkeys(digests.values()))
        job = EncodeJob(sources, encode, announce, batch_size)
        with as_cache_errors(self.folder):
            use = self._namespace.hold(create=True)
        with use:
            with as_cache_errors(self.folder):
                self._look_again(wanted)
                self._check_room(wanted, image_bytes)
            num_encoded = self._fill(wanted, job, progress=progress)
            return self._report(images, wanted, num_encoded)

    def find(self, images: Sequence[Path], *, progress: bool) -> EnsureReport | None:
        """Return what `ensure` would, where it has nothing to encode; else None. Needs no torch.

        Args:
            images: image files, duplicates allowed.
            progress: see `ensure`.

        Raises:
            CacheError, DataError: see `ensure`.
        """
        if not self._all_say(self._namespace.shards.is_dir()):
            return None
        wanted = list(dict.fromkeys(self._digest(images, progress=progress).values()))
        with as_cache_errors(self.folder), self._namespace.hold(create=True):
            self._look_again(wanted)
            is_full = all(digest in self._namespace.index for digest in wanted)
            is_full = self._all_say(is_full)
            return self._report(images, wanted, num_encoded=0) if is_full else None

    def _digest(self, images: Iterable[Path], *, progress: bool) -> dict[Path, str]:
        """Return digests of images; those that this cache has seen are not read again."""
        paths = list(dict.fromkeys(images))
        unknown = [path for path in paths if path not in self._digests]
        self._digests.update(digest_images(unknown, progress=progress, processes=self._processes))
        return {path: self._digests[path] for path in paths}

    def _all_say(self, answer: bool) -> bool:
        """Whether it is so for all processes, which must go on alike."""
        return all(self._processes.gather(answer)) if self._processes else answer

    def _look_again(self, wanted: Sequence[str]) -> None:
        """Bring the index up to date with the folder, and put damaged shards away."""
        if self._namespace.is_writable:
            self._namespace.prepare()
        self._namespace.refresh()
        self._check(wanted)

    def _report(
        self, images: Sequence[Path], wanted: Sequence[str], num_encoded: int
    ) -> EnsureReport:
        size = sum(self._namespace.image_bytes(digest) for digest in wanted)
        return EnsureReport(len(images), len(wanted), num_encoded, size)

    def open(self, images: Iterable[Path]) -> FeatureReader:
        """Return a reader of the features of `images`, all of which must be in the cache.

        Raises:
            CacheError: features are missing, or were in a shard just found damaged.
            DataError: image files cannot be read.
        """
        digests = self._digest(images, progress=False)
        with as_cache_errors(self.folder):
            use = self._namespace.hold(create=False)
            self._namespace.refresh()
            self._check(digests.values())
            index = self._namespace.index
            missing = [str(path) for path, digest in digests.items() if digest not in index]
            if missing:
                use.release()
                raise CacheError(
                    list_findings(
                        f"feature cache {self.folder}: images without whole features",
                        missing,
                        "Run `ademvl features` for this run, which encodes them.",
                    )
                )
            places = {path: index[digest] for path, digest in digests.items()}
            names = dict.fromkeys(name for name, _ in places.values())
            shards = {name: map_features(self._namespace.shards / name) for name in names}
        return FeatureReader(shards, places, use)

    def _check_room(self, wanted: Sequence[str], image_bytes: int) -> None:
        """Say what encoding will take, and refuse to start what cannot end."""
        missing = sum(image not in self._namespace.index for image in wanted)
        if not missing or not image_bytes:
            return
        needed, free = missing * image_bytes, shutil.disk_usage(self.folder).free
        sizes = f"{format_bytes(needed)} for {missing} images"
        if needed > free:
            raise CacheError(
                f"feature cache {self.folder}: {sizes} are needed, and {format_bytes(free)} are "
                "free there. Free space, set shared_dir to a larger disk, or use features.mode "
                "online."
            )
        _log.info("%s are encoded; %s are free", sizes, format_bytes(free))

    def _check(self, wanted: Iterable[str]) -> None:
        """Compare the checksums of all shards that hold wanted images, and put damaged ones away.

        An image of a damaged shard may lie in a second one, which is then checked as well.
        Processes first share what they have to check; what one of them alone sees, it
        checks itself.
        """
        wanted = tuple(wanted)
        if self._processes:
            num_processes = self._processes.world_size
            names = self._unchecked(wanted)
            self._compare(
                {
                    name
                    for name in names
                    if crc32(name.encode()) % num_processes == self._processes.rank
                }
            )
            self._checked.update(*self._processes.gather(frozenset(self._checked)))
            self._namespace.refresh()
        while names := self._unchecked(wanted):
            self._compare(names)

    def _unchecked(self, wanted: Iterable[str]) -> set[str]:
        index = self._namespace.index
        return {index[image][0] for image in wanted if image in index} - self._checked

    def _compare(self, names: Iterable[str]) -> None:
        """Compare the checksums of shards, and put damaged ones away."""
        with ThreadPoolExecutor(THREADS) as pool:
            for name, problem, seen in pool.map(self._examine, sorted(names)):
                if problem is None:
                    self._checked.add(name)
                else:
                    self._namespace.quarantine(name, problem, seen)

    def _examine(self, name: str) -> tuple[str, str | None, Signature]:
        path = self._namespace.shards / name
        seen = (0, 0, 0)
        try:
            seen = signature(path)
            check_bytes(path)
        except DamagedShardError as error:
            return name, str(error), seen
        except FileNotFoundError:
            return name, "removed by another job", seen
        return name, None, seen

    def _fill(self, wanted: Sequence[str], job: EncodeJob, *, progress: bool) -> int:
        """Encode what is missing claim by claim, until nothing is; return how many images."""
        encoded: Counter[str] = Counter()
        pause = _POLL_SECONDS[0]
        num_missing = self._namespace.want(wanted)
        with ImageProgress(num_missing, "encode", shown=progress) as shown:
            while num_missing:
                with as_cache_errors(self.folder):
                    claim, num_missing = self._namespace.claim(limit=self._shard_images)
                if claim:
                    self._encode(claim, job, encoded, shown.advance)
                    pause = _POLL_SECONDS[0]
                elif num_missing:
                    if pause == _POLL_SECONDS[0]:
                        _log.info("waiting for %d images that other jobs encode", num_missing)
                    time.sleep(pause)
                    pause = min(2 * pause, _POLL_SECONDS[1])
        return encoded.total()

    def _encode(
        self,
        claim: Claim,
        job: EncodeJob,
        encoded: Counter[str],
        advance: Callable[[int], object],
    ) -> None:
        """Encode a claim's images and publish their shard; the claim ends in any case."""
        shard = None
        try:
            if any(encoded[image] >= _MAX_ENCODINGS for image in claim.images):
                raise CacheError(
                    f"feature cache {self.folder}: shards written by this job are damaged again "
                    "and again. Check the disk, or set shared_dir to another one."
                )
            features = job.run(claim.images, self.key.precision, advance)
            known = self._namespace.shapes
            if known - {tuple(features.shape[1:])}:
                raise ValueError(
                    f"features are {tuple(features.shape[1:])} an image, others of the same key "
                    f"{sorted(known)}: the key does not tell two towers apart"
                )
            with as_cache_errors(self.folder):
                shard = write_shard(self._namespace.shards, self.key.digest, claim.images, features)
            encoded.update(claim.images)
        finally:
            with as_cache_errors(self.folder):
                self._namespace.release(claim, shard)
