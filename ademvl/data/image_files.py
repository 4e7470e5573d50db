"""Finds image files that are missing or do not decode, and opens the others as RGB."""

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ademvl.data.acquisition.zip_images import image_size_bytes, read_image_bytes
from ademvl.errors import DataError, list_findings

# What Pillow raises on damaged files: OSError in most decoders, SyntaxError for broken PNG chunks,
# ValueError and struct-like errors in some, and its own guard against giant pictures.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_REMEDY = "Fetch or make these images again."


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
        except OSError:
            findings.append(f"{path}: image of {owner} is missing")
        else:
            if is_empty:
                findings.append(f"{path}: image of {owner} is an empty file")
    return findings


def open_rgb(source: Path | bytes) -> Image.Image:
    """Decode an image to RGB; transparency is discarded, not blended.

    Raises:
        DataError: the image is missing or does not decode; names the file.
    """
    try:
        content = source if isinstance(source, bytes) else read_image_bytes(source)
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except _DECODING_ERRORS as error:
        name = "image given as bytes" if isinstance(source, bytes) else str(source)
        raise DataError(
            f"{name}: does not decode as an image ({why_undecodable(error)}). {_REMEDY}"
        ) from error


def why_undecodable(error: BaseException | None) -> str:
    """Say why an image was not decoded."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):  # which names the bytes' place in memory
        return "no known image format"
    return str(error)


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
            findings.append(str(error).removesuffix(f". {_REMEDY}"))
    if findings:
        raise DataError(list_findings("Images that do not decode", findings, _REMEDY))
