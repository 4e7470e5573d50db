"""Small copies of data set images beside the page, made once and shared by studies.

A thumbnail is at most SIDE pixels wide and high and never larger than its image. It is made once
for an image file (path, size and time of change) in `<shared_dir>/thumbnails/`, and linked or
copied from there, so that the page's folder can be moved or sent as it is.
"""

import hashlib
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

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
            image: file of the image.
            group: folder within `images/`, such as the data set's name.
            name: of the item; must be unique in its group.
        """
        from PIL import Image

        stem = name if _PLAIN.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:24]
        target = self._page_dir / "images" / group / f"{stem}.webp"
        if target in self._written:
            return self._written[target]
        try:
            cached, (width, height) = self._cached(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self.missing.append(image)
            return None
        _place(cached, target)
        href = target.relative_to(self._page_dir).as_posix()
        self._written[target] = Thumbnail(href, width, height)
        return self._written[target]

    def remove_others(self) -> None:
        """Remove thumbnails that an earlier page left beside this one."""
        folder = self._page_dir / "images"
        for path in folder.rglob("*.webp") if folder.is_dir() else ():
            if path not in self._written:
                path.unlink()
        if self.missing:
            _log.warning(
                "%d images could not be read, such as %s", len(self.missing), self.missing[0]
            )

    def _cached(self, image: Path) -> tuple[Path, tuple[int, int]]:
        """Return an image's thumbnail in the cache, made where it is not there, and its size."""
        from PIL import Image

        status = image.stat()
        identity = f"{image}|{status.st_size}|{status.st_mtime_ns}|{SIDE}|{QUALITY}"
        digest = hashlib.sha256(identity.encode()).hexdigest()
        path = self._cache_dir / digest[:2] / f"{digest[2:34]}.webp"
        try:
            with Image.open(path) as thumbnail:
                return path, thumbnail.size
        except (OSError, SyntaxError):  # not there, or cut short when the machine went down
            picture = _shrink(image)
        _write(picture, path)
        return path, picture.size


def _shrink(image: Path) -> "Picture":
    from PIL import Image, ImageOps

    with Image.open(image) as source:
        source.draft("RGB", (2 * SIDE, 2 * SIDE))
        upright = ImageOps.exif_transpose(source)
        picture = upright.convert("RGBA" if "A" in upright.getbands() else "RGB")
    picture.thumbnail((SIDE, SIDE))
    return picture


def _write(picture: "Picture", path: Path) -> None:
    """Write a thumbnail, atomically but without waiting for the disk: it can be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        picture.save(temporary, format="WEBP", quality=QUALITY, method=1)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _place(cached: Path, target: Path) -> None:
    """Let `target` be the cached file, as a link where the file system can, else as a copy."""
    if target.is_file() and target.samefile(cached):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(cached, target)
    except OSError:
        shutil.copyfile(cached, target)
