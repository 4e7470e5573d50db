"""One file from one HTTP address into its part file: resumed, retried, watched for stalls.

Proxies are those of the environment (http_proxy, https_proxy, no_proxy), as requests reads them.
"""

import base64
import binascii
import logging
import random
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import unescape
from typing import TYPE_CHECKING

from ademvl import __version__
from ademvl.data.acquisition.part_file import PartFile, PartOrigin
from ademvl.storage.byte_sizes import format_bytes

if TYPE_CHECKING:
    import requests

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 18
_CONNECT_SECONDS = 20.0
_MAX_DELAY_SECONDS = 60.0
_MAX_RETRY_AFTER_SECONDS = 600.0
_MIN_BYTES_PER_STALL = 1024
_PAGE_BYTES = 1 << 16
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_PAGE_START = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)", re.IGNORECASE)
_PAGE_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class TransferError(Exception):
    """An address does not give the file; another one may."""


class Stopped(Exception):
    """Another thread asked to end."""


class _Again(Exception):
    """The attempt failed in a way that passes."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class Transfers:
    """How transfers behave.

    Attributes:
        retries: attempts in a row that may fail without a byte gained.
        stall_seconds: a connection that delivers nothing for so long is made anew.
        first_delay_seconds: before the second attempt; doubled after each further failure.
        stop: ends all transfers when set.
    """

    retries: int = 8
    stall_seconds: float = 60.0
    first_delay_seconds: float = 1.0
    stop: threading.Event = field(default_factory=threading.Event)


def transfer(
    url: str,
    part: PartFile,
    transfers: Transfers,
    *,
    expected_bytes: int = 0,
    has_checksum: bool = False,
) -> None:
    """Fetch `url` until `part` holds as many bytes as the server says the file has.

    Args:
        part: open; its bytes are kept where they belong to the same file.
        transfers: how often to retry, and when to give up.
        expected_bytes: size known beforehand, 0 where unknown.
        has_checksum: the whole file is checked later, so that bytes of another address may stay.

    Raises:
        TransferError: the address does not give the file; says why.
        Stopped: `transfers.stop` was set.
        DataError: the disk is full.
    """
    import requests

    most_bytes, failures = part.size, 0
    with requests.Session() as session:
        session.headers["User-Agent"] = f"ademvl/{__version__}"
        while True:
            if _is_foreign(part, url, has_checksum=has_checksum):
                part.restart()
            try:
                _attempt(session, url, part, transfers, expected_bytes)
                return
            except _Again as error:
                failures = 1 if part.size > most_bytes else failures + 1
                most_bytes = max(most_bytes, part.size)
                if failures > transfers.retries:
                    raise TransferError(f"{error}; given up after {failures} attempts") from error
                delay = _delay(error, failures, transfers)
                _log.info("%s: %s; next attempt in %.1f s", url, error, delay)
            if transfers.stop.wait(delay):
                raise Stopped


def _is_foreign(part: PartFile, url: str, *, has_checksum: bool) -> bool:
    """Say whether bytes of an earlier attempt may be of another file than `url` gives now."""
    if part.size == 0 or has_checksum:
        return False
    return part.origin.url != url or not part.origin.validator


def _delay(error: _Again, failures: int, transfers: Transfers) -> float:
    if error.retry_after is not None:
        if error.retry_after > _MAX_RETRY_AFTER_SECONDS:
            raise TransferError(f"{error}; the server asks to wait {error.retry_after:.0f} s")
        return error.retry_after
    delay = transfers.first_delay_seconds * 2.0 ** (failures - 1)
    # Only the waiting time is random: nothing that is made depends on it.
    return min(delay, _MAX_DELAY_SECONDS) * random.uniform(0.75, 1.25)


def _attempt(
    session: "requests.Session",
    url: str,
    part: PartFile,
    transfers: Transfers,
    expected_bytes: int,
) -> None:
    import requests

    headers = {"Accept-Encoding": "identity"} | _range_headers(part, url)
    timeout = (_CONNECT_SECONDS, transfers.stall_seconds)
    try:
        response = session.get(url, headers=headers, stream=True, timeout=timeout)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise TransferError(f"not a usable address: {error}") from error
    except requests.exceptions.TooManyRedirects as error:
        raise TransferError("redirected in a circle") from error
    except requests.exceptions.RequestException as error:
        raise _Again(f"no connection ({_reason(error)})") from error
    with response:
        total = _accept(response, part)
        if total is None:
            return  # the part was complete already
        if expected_bytes and total and total != expected_bytes:
            start = response.raw.read(_PAGE_BYTES) if part.size == 0 else b""
            if _PAGE_START.match(start):
                raise _page_error(start)
            raise TransferError(f"offers {total} bytes, expected {expected_bytes}")
        wanted = total or expected_bytes
        part.note_origin(_origin(response, url, total))
        _receive(response, part, transfers, wanted)
    if wanted and part.size < wanted:
        raise _Again(f"cut off after {part.size} of {wanted} bytes")


def _range_headers(part: PartFile, url: str) -> dict[str, str]:
    if part.size == 0:
        return {}
    headers = {"Range": f"bytes={part.size}-"}
    if part.origin.url == url and part.origin.validator:
        headers["If-Range"] = part.origin.validator
    return headers


def _accept(response: "requests.Response", part: PartFile) -> int | None:
    """Check the head of an answer; return the file's size, 0 if unknown, None if all is there.

    Where the server starts from the beginning, the part does, too.
    """
    status = response.status_code
    if status in _PASSING:
        raise _Again(f"answers {status} {response.reason}", retry_after=_retry_after(response))
    if status == 416:
        total = _number(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        if total == part.size:
            return None
        part.restart()
        raise _Again("has fewer bytes than have arrived; starting again")
    if status not in (200, 206):
        raise TransferError(f"answers {status} {response.reason}")
    if "text/html" in response.headers.get("Content-Type", "").lower():
        raise _page_error(response.raw.read(_PAGE_BYTES, decode_content=True))
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise TransferError(f"sends the file encoded as {encoding}, which was not asked for")
    if status == 200:
        if part.size:
            _log.info("%s: the server starts from the beginning", response.url)
            part.restart()
        return int(response.headers.get("Content-Length") or 0)
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if not found or int(found[1]) != part.size:
        part.restart()
        raise _Again("answers with another range than was asked for; starting again")
    total = 0 if found[2] == "*" else int(found[2])
    if part.origin.total_bytes and total and total != part.origin.total_bytes:
        part.restart()
        raise _Again("the file has changed on the server; starting again")
    return total


def _receive(
    response: "requests.Response", part: PartFile, transfers: Transfers, wanted: int
) -> None:
    from urllib3.exceptions import HTTPError

    window_started, window_bytes = time.monotonic(), 0
    while True:
        if transfers.stop.is_set():
            raise Stopped
        try:
            chunk = response.raw.read1(_CHUNK_BYTES, decode_content=False)
        except (HTTPError, OSError) as error:
            raise _Again(f"broken off after {part.size} bytes ({_reason(error)})") from error
        if not chunk:
            return
        if part.size == 0 and _PAGE_START.match(chunk):
            raise _page_error(chunk)
        if wanted and part.size + len(chunk) > wanted:
            part.restart()
            raise TransferError(f"sends more than the {wanted} bytes of the file")
        part.append(chunk)
        window_bytes += len(chunk)
        now = time.monotonic()
        if now - window_started > transfers.stall_seconds:
            if window_bytes < _MIN_BYTES_PER_STALL:
                raise _Again(f"stalled: {window_bytes} bytes in {now - window_started:.0f} s")
            window_started, window_bytes = now, 0


def _origin(response: "requests.Response", url: str, total: int) -> PartOrigin:
    etag = response.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else ""
    validator = strong or response.headers.get("Last-Modified", "")
    return PartOrigin(url, validator, total, _stated_md5(response.headers, response.status_code))


def _stated_md5(headers: Mapping[str, str], status: int) -> str:
    """Return the MD5 that a server states for the whole file (Google Cloud Storage, RFC 1864)."""
    encoded = ""
    for part in headers.get("x-goog-hash", "").split(","):
        if part.strip().startswith("md5="):
            encoded = part.strip().removeprefix("md5=")
    if not encoded and status == 200:
        encoded = headers.get("Content-MD5", "")
    try:
        return base64.b64decode(encoded, validate=True).hex()
    except binascii.Error:
        return ""


def _retry_after(response: "requests.Response") -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def _number(pattern: str, text: str) -> int | None:
    found = re.fullmatch(pattern, text)
    return int(found[1]) if found else None


def _page_error(content: bytes) -> TransferError:
    title = _PAGE_TITLE.search(content)
    name = unescape(title[1].decode("utf-8", "replace")).strip() if title else ""
    shown = f" titled {name!r}" if name else f" ({format_bytes(len(content))})"
    return TransferError(f"gives a web page{shown} in place of the file")


def _reason(error: BaseException) -> str:
    """Return the innermost reason of an error of requests or urllib3, which nest theirs."""
    inner: BaseException | None = error
    while inner is not None:
        error = inner
        nested = (getattr(error, "reason", None), *error.args)
        inner = next((item for item in nested if isinstance(item, BaseException)), None)
    text = str(error) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
