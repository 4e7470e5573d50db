"""Reading strictly and writing atomically: no half file ever stands under its final name."""

import codecs
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ademvl.errors import DataError, DiskFullError
from ademvl.storage.byte_sizes import format_bytes
from ademvl.storage.outputs import is_stream, place_of_file, write_to_stream
from ademvl.storage.stand_ins import describe_stand_in

_START_CHARACTERS = 512
_DEEPEST = 100
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LONGEST_PREFIX = 50  # a name may have 255 bytes in all
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL_IN_RUST = tuple(f"(os error {number})" for number in DISK_FULL)  # safetensors wraps it


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved to `path` when the block ends without error.

    The file's bytes are flushed to disk before the rename; after an error nothing is left behind.
    A file that is replaced hands on its mode. Where `path` is a link, the file that it leads to is
    replaced; where it is a device or a pipe, the finished bytes are written to it.

    Args:
        path: where the finished file is to stand.
        durable: False does not wait for the disk: for files that can be made again, and whose
            readers bear one that a crash of the machine cut short.

    Raises:
        DataError: `path` is a folder, or a link that leads nowhere.
        DiskFullError: there is no room; names the file.
    """
    place = place_of_file(path)
    if is_stream(place):
        with tempfile.TemporaryDirectory(prefix="ademvl-") as folder, explained_disk_full(path):
            yield Path(folder, place.name)
            write_to_stream(place, Path(folder, place.name))
        return
    with explained_disk_full(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_beside(place)
        try:
            yield temporary
            if durable:
                with temporary.open("rb") as written:
                    os.fsync(written.fileno())
            temporary.chmod(place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask())
            temporary.replace(place)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    prefix = f".{path.name[:_LONGEST_PREFIX]}."
    try:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
    except OSError as error:  # of the name that a user knows
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    return Path(name)


@contextmanager
def explained_disk_full(path: Path) -> Iterator[None]:
    """Say of a file that is written in this block, and finds no room, that it is the one.

    Raises:
        DiskFullError: there is no room; names the file.
    """
    try:
        yield
    except Exception as error:
        is_full = isinstance(error, OSError) and error.errno in DISK_FULL
        if not is_full and not str(error).endswith(_DISK_FULL_IN_RUST):
            raise
        raise DiskFullError(disk_full_text(path)) from error


def disk_full_text(path: Path) -> str:
    """Say that there is no room for a file, and what to do."""
    free = shutil.disk_usage(_existing_parent(path)).free
    return (
        f"{path}: the disk is full ({format_bytes(free)} free); this file was not written, the "
        "others stay. Free some space and run the same command again: it goes on from there."
    )


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def dump_json(value: object) -> str:
    """Render JSON with sorted keys and a final newline, so that files diff well.

    Halves of characters, which UTF-8 does not have, are escaped.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json(path: Path, value: object) -> None:
    """Write `value` as sorted JSON, atomically."""
    write_text(path, dump_json(value))


def read_json(path: Path, *, remedy: str, half_characters: bool = False) -> Any:
    """Read a JSON file, refusing duplicate keys.

    Args:
        path: read whole, as UTF-8.
        remedy: what to do about a malformed one.
        half_characters: whether texts may hold halves of characters; the caller then says whose.

    Raises:
        DataError: missing or malformed file, or an object with a key twice; names the file, the
            place and `remedy`.
    """
    text = read_text(path, remedy=remedy)
    return parse_json(text, place=str(path), remedy=remedy, half_characters=half_characters)


def read_json_lines(path: Path, *, remedy: str) -> list[Any]:
    """Read a file of one JSON value a line, refusing duplicate keys; blank lines are left out.

    Raises:
        DataError: missing file, or a malformed line; names the file, the line and `remedy`.
    """
    return _parse_lines(read_text(path, remedy=remedy), path, remedy)


def _parse_lines(text: str, path: Path, remedy: str, *, half_characters: bool = False) -> list[Any]:
    return [
        parse_json(
            line,
            place=f"{path}: line {number}",
            remedy=remedy,
            half_characters=half_characters,
        )
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def read_json_or_lines(path: Path, *, remedy: str) -> Any:
    """Read a file that holds one JSON value, or an object a line: the latter gives a list.

    The content decides, because published files of either form go by both names. A single line
    is one value. Texts may hold halves of characters: what models generate ends anywhere.

    Raises:
        DataError: as `read_json` and `read_json_lines`.
    """
    text = read_text(path, remedy=remedy)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1 and lines[0].startswith("{") and lines[0].endswith("}"):
        return _parse_lines(text, path, remedy, half_characters=True)
    return parse_json(text, place=str(path), remedy=remedy, half_characters=True)


def read_text(path: Path, *, remedy: str) -> str:
    r"""Read text in UTF-8, or in UTF-16 if its byte order mark says so; line ends become "\n".

    Editors and shells on Windows write such marks; they are no part of the text.

    Raises:
        DataError: missing file, or no text in either; names the file, the place and `remedy`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {remedy}") from error
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if is_utf16 else "UTF-8"
        raise DataError(f"{path}: not {encoding} text at byte {error.start}. {remedy}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str, *, place: str, remedy: str, half_characters: bool = False) -> Any:
    """Parse JSON, refusing duplicate keys, endless nesting and, unless allowed, half characters.

    Args:
        place: where it comes from, for messages.
        remedy: what to do about malformed text.
        half_characters: see `read_json`.

    Raises:
        DataError: malformed text, an object with a key twice, or what nothing could be done with;
            names `place` and `remedy`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_refuse_duplicate_keys)
    except json.JSONDecodeError as error:
        if what := describe_stand_in(text[:_START_CHARACTERS].encode("utf-8", "replace")):
            raise DataError(f"{place}: {what} {remedy}") from error
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{place}: not valid JSON at {where}: {error.msg}. {remedy}") from error
    except _DuplicateKeyError as error:
        raise DataError(f"{place}: key {error.args[0]!r} occurs twice. {remedy}") from error
    except RecursionError as error:
        raise DataError(f"{place}: JSON nested too deeply to be read. {remedy}") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{place}: not readable as JSON: {error}. {remedy}") from error
    if _is_deeper_than(value, _DEEPEST):
        raise DataError(f"{place}: JSON nested more than {_DEEPEST} levels deep. {remedy}")
    if not half_characters and _SURROGATE.search(text) and (found := _half_characters(value)):
        raise DataError(f"{place}: {found!a} holds half of a character, which is no text. {remedy}")
    return value


def _is_deeper_than(value: Any, levels: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        if not level:
            return False
        level = [
            part
            for whole in level
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, dict | list)
        ]
    return bool(level)


def _half_characters(value: Any) -> str:
    """Return the first text with a surrogate that has no other half, or no text."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return str(error.object)[max(0, error.start - 20) : error.end + 20]
    return ""


class _DuplicateKeyError(ValueError):
    pass


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key)
            seen.add(key)
    return found


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
