"""Small copies of data set images beside the page, made once and shared by studies.

A thumbnail is at most SIDE pixels wide and high and never larger than its image. It shows what
models see: stored pixels, without transparency and EXIF orientation. It is made once
for an image (its path; size and time of change of its file, or of the archive that holds it) in
`<shared_dir>/thumbnails/`, and linked or copied from there, so that the page's folder can be moved
or sent as it is.
"""

import hashlib
import io
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ademvl.data.acquisition.zip_images import image_stamp
from ademvl.errors import DataError
from ademvl.storage.files import atomic_path

SIDE = 320
QUALITY = 75
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,80}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of an image.

    Attributes:
        href: path relative to the page.
        width, height: in pixels.
    """

    href: str
    width: int
    height: int

    def to_json(self) -> list[object]:
        """Render for the page's script."""
        return [self.href, self.width, self.height]


class Thumbnails:
    """The thumbnails of one page.

    Args:
        cache_dir: where they are made; shared by pages.
        page_dir: folder of the page; they go to its `images/`.

    Attributes:
        missing: images that are not there, or cannot be decoded.
    """

    def __init__(self, cache_dir: Path, page_dir: Path) -> None:
        self.missing: list[Path] = []
        self._cache_dir = cache_dir
        self._page_dir = page_dir
        self._written: dict[Path, Thumbnail] = {}

    def add(self, image: Path, *, group: str, name: str) -> Thumbnail | None:
        """Put an image's thumbnail beside the page; None where the image cannot be read.

        Args:
            group: folder within `images/`, such as the data set's name.
            name: of the item; must be unique in its group.
        """
        stem = name if _PLAIN.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:24]
        target = self._page_dir / "images" / group / f"{stem}.webp"
        if target in self._written:
            return self._written[target]
        try:
            cached, (width, height), made = self._find_or_make(image)
        except (OSError, DataError):
            self.missing.append(image)
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        if made is None or _write(made, cached):
            _place(cached, target)
        else:
            with atomic_path(target, durable=False) as temporary:
                temporary.write_bytes(made)
        href = target.relative_to(self._page_dir).as_posix()
        self._written[target] = Thumbnail(href, width, height)
        return self._written[target]

    def warn_of_missing(self) -> None:
        """Log how many images could not be read."""
        if self.missing:
            _log.warning(
                "%d images could not be read, such as %s", len(self.missing), self.missing[0]
            )

    def _find_or_make(self, image: Path) -> tuple[Path, tuple[int, int], bytes | None]:
        """Return a thumbnail's place in the cache, its size, and its bytes unless it is there."""
        from PIL import Image

        size, modified_ns, *_ = image_stamp(image)
        identity = f"{image}|{size}|{modified_ns}|{SIDE}|{QUALITY}|as models see"
        digest = hashlib.sha256(identity.encode()).hexdigest()
        path = self._cache_dir / digest[:2] / f"{digest[2:34]}.webp"
        try:
            with Image.open(path) as thumbnail:
                return path, thumbnail.size, None
        except (OSError, SyntaxError):  # not there, or cut short when the machine went down
            return path, *_shrink(image)


def _shrink(image: Path) -> tuple[tuple[int, int], bytes]:
    from ademvl.data.image_files import open_rgb

    picture = open_rgb(image, draft=(2 * SIDE, 2 * SIDE))
    picture.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    picture.save(content, format="WEBP", quality=QUALITY, method=1)
    return picture.size, content.getvalue()


def _write(content: bytes, path: Path) -> bool:
    """Write a thumbnail to the cache without waiting for the disk; False where that is not allowed.

    Raises:
        DiskFullError: there is no room.
    """
    try:
        with atomic_path(path, durable=False) as temporary:
            temporary.write_bytes(content)
    except OSError:
        return False
    return True


def _place(cached: Path, target: Path) -> None:
    """Let `target` be the cached file, as a link where the file system can, else as a copy."""
    if target.is_file() and target.samefile(cached):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(cached, target)
    except OSError:
        with atomic_path(target, durable=False) as temporary:
            shutil.copyfile(cached, temporary)
