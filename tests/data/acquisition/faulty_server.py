"""A real HTTP server on loopback that serves files and breaks in prescribed ways."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler

from tests.loopback import QuietHandler, serving

QUOTA_PAGE = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head>"
    b"<body>Too many users have viewed or downloaded this file recently.</body></html>"
)


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong; what is not set is right.

    Attributes:
        cut_at: the connection is closed before this byte of the file.
        stall_at: nothing comes from this byte of the file on.
        flip_at: the bits of this byte are inverted.
        status: answered in place of the file, with `headers`.
        headers: added to the answer.
        body: sent in place of the file.
        length_offset: added to the true Content-Length.
    """

    cut_at: int | None = None
    stall_at: int | None = None
    flip_at: int | None = None
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    length_offset: int = 0


@dataclass
class Served:
    """A file, the faults of its first answers in order, and how it is served.

    The second half is sent when `go_on` is set.
    """

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    ranges: bool = True
    etag: bool = True
    content_type: str = "application/octet-stream"
    forever: Fault | None = None
    headers: tuple[tuple[str, str], ...] = ()
    go_on: threading.Event | None = None
    requests: list[dict[str, str]] = field(default_factory=list)

    @cached_property
    def tag(self) -> str:
        """ETag of the content, computed once: it takes long for large files."""
        return f'"{hashlib.md5(self.content).hexdigest()}"'


class FaultyServer:
    """Serves `files` by path below `url`."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.released = threading.Event()
        self.url = ""

    def serve(self, name: str, content: bytes, faults: Sequence[Fault] = (), **how: object) -> str:
        """Serve a file; return its URL."""
        self.files[f"/{name}"] = Served(content, list(faults), **how)  # type: ignore[arg-type]
        return f"{self.url}/{name}"

    def requests(self, name: str) -> list[dict[str, str]]:
        """Headers of all requests for a file."""
        return self.files[f"/{name}"].requests

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        served = self.files.get(handler.path)
        if served is None:
            handler.send_error(404)
            return
        served.requests.append(dict(handler.headers))
        fault = served.faults.pop(0) if served.faults else served.forever or Fault()
        if fault.status is not None:
            self._send_head(handler, fault.status, dict(fault.headers) | {"Content-Length": "0"})
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._send_file(handler, served, fault)

    def _send_file(self, handler: BaseHTTPRequestHandler, served: Served, fault: Fault) -> None:
        content = served.content if fault.body is None else fault.body
        etag = served.tag
        headers = {"Content-Type": served.content_type} | dict(served.headers)
        if served.etag:
            headers["ETag"] = etag
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        is_same = handler.headers.get("If-Range", etag) == etag
        if wanted and served.ranges and is_same:
            start, status = int(wanted[1]), 206
            if start >= len(content):
                self._send_head(handler, 416, {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers |= dict(fault.headers)
        headers["Content-Length"] = str(len(content) - start + fault.length_offset)
        self._send_head(handler, status, headers)
        self._send_body(handler, content, start, fault, served.go_on)

    def _send_body(
        self,
        handler: BaseHTTPRequestHandler,
        content: bytes,
        start: int,
        fault: Fault,
        go_on: threading.Event | None,
    ) -> None:
        if fault.flip_at is not None and fault.flip_at >= start:
            flipped = bytearray(content)
            flipped[fault.flip_at] ^= 0xFF
            content = bytes(flipped)
        ends = [end for end in (fault.cut_at, fault.stall_at) if end is not None]
        end = max(min([*ends, len(content)]), start)
        middle = (start + end) // 2
        handler.wfile.write(content[start:middle])
        if go_on:
            go_on.wait()
        handler.wfile.write(content[middle:end])
        if fault.stall_at is not None:
            self.released.wait()
        if ends or fault.length_offset:
            handler.close_connection = True

    def _send_head(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str]
    ) -> None:
        handler.send_response(status)
        for key, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(key, value)
        handler.end_headers()


@contextlib.contextmanager
def running_server() -> Iterator[FaultyServer]:
    server = FaultyServer()

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.answer(self)

        do_HEAD = do_GET

    with serving(Handler) as server.url:
        try:
            yield server
        finally:
            server.released.set()
