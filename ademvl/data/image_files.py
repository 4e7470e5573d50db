"""Finds image files that are missing or do not decode, and opens the others as RGB.

There is one rule by which models, page and figures decode and resize an image; it does not depend
on the release of Pillow.
"""

import io
import struct
from collections.abc import Iterable
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from ademvl.data.acquisition.zip_images import image_size_bytes, read_image_bytes
from ademvl.errors import DataError, list_findings
from ademvl.storage.stand_ins import describe_stand_in

# What Pillow raises on damaged files: OSError in most decoders, SyntaxError for broken PNG chunks,
# ValueError and struct-like errors in some, and its own guard against giant pictures.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_REMEDY = "Fetch or make these images again."
_UNDECODABLE = "does not decode as an image"
_16_BIT = ("PPM", "PNG")  # formats whose 32-bit integers Pillow made of 16 bits
_OPAQUE = 255


def missing_image_findings(entries: Iterable[tuple[str, Path]]) -> list[str]:
    """Describe which of (whose image, path) are absent or empty; each path is named once."""
    findings = []
    seen: set[Path] = set()
    for owner, path in entries:
        if path in seen:
            continue
        seen.add(path)
        try:
            is_empty = image_size_bytes(path) == 0
        except (FileNotFoundError, NotADirectoryError):
            findings.append(f"{path}: image of {owner} is missing")
        except OSError as error:
            findings.append(f"{path}: image of {owner} cannot be read ({error.strerror})")
        else:
            if is_empty:
                findings.append(f"{path}: image of {owner} is an empty file")
    return findings


def open_rgb(
    source: Path | bytes, *, name: str = "", draft: tuple[int, int] | None = None
) -> Image.Image:
    """Decode an image to RGB: the one rule by which models, pages and figures see it.

    Pixels are taken as they are stored, as in the reference implementation: transparency is
    discarded, not blended, an EXIF orientation is not applied, and of several frames the first
    counts. Levels of 16 bits become those of their high bytes, where the reference turns all but
    the darkest white. Pixels of 32 bits, integers or floats, have no white and are refused.

    Args:
        source: file, or its bytes.
        name: of the image in errors; the file's by default.
        draft: width and height that are enough, for decoders that are faster then.

    Raises:
        DataError: the image is missing or does not decode; names the file.
    """
    name = name or ("image given as bytes" if isinstance(source, bytes) else str(source))
    content = b""
    try:
        content = source if isinstance(source, bytes) else read_image_bytes(source)
        with Image.open(io.BytesIO(content)) as image:
            if draft:
                image.draft("RGB", draft)
            return _to_rgb(image)
    except _DECODING_ERRORS as error:
        if what := describe_stand_in(content):
            raise DataError(f"{name}: {what}") from error
        raise DataError(f"{name}: {_UNDECODABLE} ({_reason(error)}). {_REMEDY}") from error


def resize_to_square(
    image: Image.Image, side: int, *, box: tuple[int, int, int, int] | None = None
) -> Image.Image:
    """Resample an image, or a box of it, to a square by Pillow's bicubic filter.

    The filter runs along rows and columns one after the other, with 8 bits in between. Before
    version 13, Pillow always began with rows; since then it begins with columns where that is
    less work, and single pixels of tall images come out by up to 18 levels otherwise. Here both
    begin as version 13 does, so that features do not depend on the version.

    Args:
        image: RGB.
        side: of the result, in pixels.
        box: left, top, right, bottom; all of the image by default.
    """
    (width, height), bicubic = image.size, Image.Resampling.BICUBIC
    left, top, right, bottom = box or (0, 0, width, height)
    if height - side > max(0, 2 * (width - side)):
        columns = image.resize((width, side), bicubic, box=(0, top, width, bottom))
        return columns.resize((side, side), bicubic, box=(left, 0, right, side))
    rows = image.resize((side, height), bicubic, box=(left, 0, right, height))
    return rows.resize((side, side), bicubic, box=(0, top, side, bottom))


def _to_rgb(image: Image.Image) -> Image.Image:
    is_16_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _16_BIT)
    if is_16_bit:
        import numpy as np

        high = (np.asarray(image) >> 8).astype(np.uint8)  # (H, W)
        return Image.fromarray(high).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("its pixels have 32 bits; save it with 8 bits a channel")
    return image.convert("RGB")


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):  # whose text names an object in memory
        return "no known image format"
    return str(getattr(error, "strerror", None) or error)


def view_differences(path: Path) -> list[str]:
    """Say in what a viewer shows another picture than `open_rgb` gives; empty where in nothing.

    Raises:
        DataError: as `open_rgb`.
    """
    differences = []
    try:
        with Image.open(io.BytesIO(read_image_bytes(path))) as image:
            if (orientation := _orientation(image)) in range(2, 9):
                differences.append(f"its EXIF orientation ({orientation}) is not applied")
            if image.has_transparency_data and _shows_through(image):
                differences.append("its transparency is discarded, and hidden colours are seen")
    except _DECODING_ERRORS as error:
        raise DataError(f"{path}: {_UNDECODABLE} ({_reason(error)}). {_REMEDY}") from error
    return differences


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except (*_DECODING_ERRORS, struct.error, LookupError, TypeError):
        return None  # damaged EXIF turns no viewer's picture


def _shows_through(image: Image.Image) -> bool:
    """Whether any pixel is less than opaque."""
    return any(image.convert("RGBA").getchannel("A").histogram()[:_OPAQUE])


def check_decodable(paths: Iterable[Path]) -> None:
    """Decode every image once, to report all damaged ones together.

    Slow on large sets: meant for checking new data, or for completing the list after one failure.

    Raises:
        DataError: lists the images that do not decode.
    """
    findings = []
    for path in paths:
        try:
            open_rgb(path)
        except DataError as error:
            findings.append(without_remedy(error))
    if findings:
        raise DataError(list_findings("Images that do not decode", findings, _REMEDY))


def without_remedy(error: DataError) -> str:
    """Return what `open_rgb` says of an image, without what to do."""
    return str(error).removesuffix(f". {_REMEDY}")
