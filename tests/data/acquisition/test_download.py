"""Protects downloads: the right bytes under the final name, or a clear error and nothing there."""

import fcntl
import hashlib
import json
import random
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from pathlib import Path

import pytest

from ademvl.data.acquisition.checks import git_blob_id
from ademvl.data.acquisition.download import FileTarget, fetch_file
from ademvl.data.acquisition.records import Records
from ademvl.data.acquisition.registry import SourceFile
from ademvl.data.acquisition.transfer import Stopped, Transfers
from ademvl.errors import DataError
from tests.data.acquisition.conftest import random_bytes
from tests.data.acquisition.faulty_server import QUOTA_PAGE, Fault, FaultyServer, Served
from tests.waiting import wait_until

MEGABYTE = 1 << 20
CONTENT = random_bytes(4 * MEGABYTE)


def target(folder: Path, *urls: str, content: bytes = CONTENT, name: str = "f.bin") -> FileTarget:
    """A file whose size and checksum are known."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = SourceFile(name=name, urls=urls, origin="here", bytes=len(content), sha256=sha256)
    return FileTarget(file, folder)


def unknown(folder: Path, *urls: str, name: str = "f.json") -> FileTarget:
    """A file of which nothing is known."""
    return FileTarget(SourceFile(name=name, urls=urls, origin="nowhere"), folder)


def failure(wanted: FileTarget, transfers: Transfers) -> str:
    with pytest.raises(DataError) as caught:
        fetch_file(wanted, transfers)
    assert not wanted.path.exists()
    return str(caught.value)


def check_arrives(wanted: FileTarget, transfers: Transfers, content: bytes = CONTENT) -> None:
    fetch_file(wanted, transfers)
    assert wanted.path.read_bytes() == content
    assert not wanted.part_path.exists()
    assert Records(wanted.folder).is_verified(wanted.file.name)


def check_cuts(server: FaultyServer, folder: Path, transfers: Transfers, content: bytes) -> None:
    """30 cuts at random places: each goes on where the last one ended."""
    generator = random.Random(1)
    places = sorted(generator.sample(range(1, len(content)), 30))
    url = server.serve("f.bin", content, [Fault(cut_at=place) for place in places])
    check_arrives(target(folder, url, content=content), transfers, content)
    asked = [headers.get("Range") for headers in server.requests("f.bin")]
    assert len(asked) == 31
    assert asked == [None] + [f"bytes={place}-" for place in places]


def test_thirty_cuts_end_in_the_same_bytes(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    check_cuts(server, tmp_path, transfers, CONTENT)


@pytest.mark.slow
def test_thirty_cuts_of_200_megabytes_end_in_the_same_bytes(
    server: FaultyServer, tmp_path: Path
) -> None:
    transfers = Transfers(first_delay_seconds=0.001)  # slow machines get their time
    check_cuts(server, tmp_path, transfers, random_bytes(200 * 10**6))


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(status=503, headers=(("Retry-After", "0"),))],
        [Fault(status=500), Fault(status=429)],
        [Fault(cut_at=0)],
        [Fault(flip_at=3 * MEGABYTE)],
        [Fault(length_offset=1000, cut_at=len(CONTENT))],
        [Fault(cut_at=MEGABYTE), Fault(headers=(("Content-Range", "bytes 0-9/10"),))],
    ],
    ids=["503", "500 and 429", "cut at once", "flip", "long", "range"],
)
def test_fault_that_passes_ends_in_the_right_bytes(
    server: FaultyServer, tmp_path: Path, transfers: Transfers, faults: list[Fault]
) -> None:
    if faults[0].length_offset:  # the size is then not the expected one: another address helps
        urls = [server.serve("bad", CONTENT, faults), server.serve("good", CONTENT)]
        check_arrives(target(tmp_path, *urls), transfers)
    else:
        check_arrives(target(tmp_path, server.serve("f.bin", CONTENT, faults)), transfers)


@pytest.mark.parametrize("place", [0, 100_000])
def test_connection_that_stalls_is_made_anew(
    server: FaultyServer, tmp_path: Path, place: int
) -> None:
    # On a busy machine other answers stall for so long as well: they may be asked for again, too.
    transfers = Transfers(retries=1000, stall_seconds=0.5, first_delay_seconds=0.001)
    url = server.serve("f.bin", CONTENT, [Fault(stall_at=place)])
    check_arrives(target(tmp_path, url), transfers)
    assert len(server.requests("f.bin")) >= 2


class NeverStopped(threading.Event):
    """Is waited for as long as transfers like, but not in this world."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


def test_retry_after_is_waited_for(server: FaultyServer, tmp_path: Path) -> None:
    url = server.serve("f.bin", CONTENT, [Fault(status=503, headers=(("Retry-After", "7"),))])
    stop = NeverStopped()
    check_arrives(target(tmp_path, url), Transfers(stop=stop))
    assert stop.waits == [7.0]


def test_retry_after_too_long_is_said(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    url = server.serve("f.bin", CONTENT, [Fault(status=503, headers=(("Retry-After", later),))])
    assert "asks to wait 7" in failure(target(tmp_path, url), transfers)


def test_server_without_ranges_starts_anew(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    faults = [Fault(cut_at=MEGABYTE), Fault(cut_at=2 * MEGABYTE)]
    url = server.serve("f.bin", CONTENT, faults, ranges=False)
    check_arrives(target(tmp_path, url), transfers)


def test_redirects_are_followed(server: FaultyServer, tmp_path: Path, transfers: Transfers) -> None:
    end = server.serve("end", CONTENT, [Fault(cut_at=MEGABYTE)])
    hop = server.serve("hop", b"", forever=Fault(status=307, headers=(("Location", end),)))
    url = server.serve("f.bin", b"", forever=Fault(status=302, headers=(("Location", hop),)))
    check_arrives(target(tmp_path, url), transfers)


def test_redirects_in_a_circle_are_an_error(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    location = (("Location", f"{server.url}/f.bin"),)
    url = server.serve("f.bin", b"", forever=Fault(status=302, headers=location))
    assert "redirected in a circle" in failure(target(tmp_path, url), transfers)


def test_missing_file_is_taken_from_the_next_address(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    url = server.serve("f.bin", CONTENT)
    check_arrives(target(tmp_path, f"{server.url}/gone", url), transfers)
    assert Records(tmp_path).read()["f.bin"].url == url


def test_every_address_is_named_with_its_reason(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    urls = [
        f"{server.url}/gone",
        server.serve("page", CONTENT, forever=Fault(body=QUOTA_PAGE)),
        server.serve("short", CONTENT[:-1]),
        server.serve("other", CONTENT[::-1]),
        server.serve("down", CONTENT, forever=Fault(status=503)),
        server.serve("cut", CONTENT, forever=Fault(cut_at=10)),
        "http://127.0.0.1:1/closed",
    ]
    message = failure(target(tmp_path, *urls), transfers)
    assert f"{tmp_path}/f.bin: no address gave the right file" in message
    expected = [
        "answers 404 Not Found",
        "gives a web page titled 'Google Drive - Quota exceeded' in place of the file",
        f"offers {len(CONTENT) - 1} bytes, expected {len(CONTENT)}",
        "all bytes came, but sha256 is",
        "answers 503 Service Unavailable; given up after 4 attempts",
        "broken off after 10 bytes",
        "Connection refused",
    ]
    assert [text for text in expected if text not in message] == []
    assert "put it there" in message


def test_page_is_known_by_its_type_too(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    url = server.serve("f.json", b"Sorry, later", content_type="text/html; charset=utf-8")
    assert "gives a web page (12 B) in place of the file" in failure(
        unknown(tmp_path, url), transfers
    )


def test_part_of_a_killed_process_is_gone_on_with(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    wanted = target(tmp_path, server.serve("f.bin", CONTENT))
    wanted.part_path.write_bytes(CONTENT[:MEGABYTE])
    check_arrives(wanted, transfers)
    assert server.requests("f.bin")[0]["Range"] == f"bytes={MEGABYTE}-"


def test_damaged_part_is_dropped_and_fetched_anew(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    wanted = target(tmp_path, server.serve("f.bin", CONTENT))
    wanted.part_path.write_bytes(bytes(MEGABYTE))
    check_arrives(wanted, transfers)


def test_part_that_was_complete_is_only_verified(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    wanted = target(tmp_path, server.serve("f.bin", CONTENT))
    wanted.part_path.write_bytes(CONTENT)
    check_arrives(wanted, transfers)


def test_file_that_changed_on_the_server_is_not_mixed(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    old, new = json.dumps(["old"] * 99999).encode(), json.dumps(["new"] * 99999).encode()
    url = server.serve("f.json", old, forever=Fault(cut_at=300_000))
    failure(unknown(tmp_path, url), transfers)
    assert (tmp_path / "f.json.part").stat().st_size == 300_000
    server.serve("f.json", new)
    check_arrives(unknown(tmp_path, url), transfers, new)
    assert server.requests("f.json")[0]["If-Range"]


def test_part_without_validator_is_not_trusted(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    content = json.dumps(list(range(99999))).encode()
    url = server.serve("f.json", content, [Fault(cut_at=1000)], etag=False)
    check_arrives(unknown(tmp_path, url), transfers, content)
    assert [headers.get("Range") for headers in server.requests("f.json")] == [None, None]


def test_first_download_is_recorded_and_later_ones_must_match(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    url = server.serve("f.json", b"[1]")
    wanted = unknown(tmp_path, url)
    check_arrives(wanted, transfers, b"[1]")
    wanted.path.unlink()
    server.serve("f.json", b"[2]")
    message = failure(wanted, transfers)
    assert "recorded at the first download" in message
    assert "delete its entry in" in message
    assert "recorded.json" in message
    server.serve("f.json", b"[1]")
    check_arrives(wanted, transfers, b"[1]")


def test_json_that_does_not_parse_is_not_recorded(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    message = failure(unknown(tmp_path, server.serve("f.json", b'{"a": 1')), transfers)
    assert "is no JSON" in message
    assert Records(tmp_path).read() == {}


def test_archive_with_a_flipped_byte_is_fetched_again(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", CONTENT)
    content = buffer.getvalue()
    url = server.serve("f.zip", content, [Fault(flip_at=MEGABYTE)])
    file = SourceFile(name="f.zip", urls=(url,), origin="nowhere", unpack_to=".")
    check_arrives(FileTarget(file, tmp_path), transfers, content)
    assert len(server.requests("f.zip")) == 2


def test_md5_that_the_server_states_is_checked(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    # base64 of the MD5 of b"[1]": hashlib.md5(b"[1]").digest()
    stated = (("x-goog-hash", "crc32c=AAAAAA==,md5=NcFU5u1wzxe06VwIeaL28g=="),)
    digest = hashlib.md5(b"[1]").hexdigest()
    assert digest != "35c154e6ed70cf17b4e95c0879a2f6f2"
    url = server.serve("f.json", b"[1]", headers=stated)
    assert f"md5 is {digest}, the server says 35c154e6" in failure(
        unknown(tmp_path, url), transfers
    )


def test_git_blob_id_is_checked(server: FaultyServer, tmp_path: Path, transfers: Transfers) -> None:
    (tmp_path / "hello").write_bytes(b"hello\n")
    blob = git_blob_id(tmp_path / "hello")
    assert blob == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    for name, content in (("good.json", b"hello\n"), ("bad.json", b"hell0\n")):
        url = server.serve(name, content)
        file = SourceFile(name=name, urls=(url,), origin="git", git_blob=blob)
        if name == "good.json":
            check_arrives(FileTarget(file, tmp_path), transfers, content)
        else:
            assert "git blob id is" in failure(FileTarget(file, tmp_path), transfers)


def test_file_placed_by_hand_is_verified_and_used(tmp_path: Path, transfers: Transfers) -> None:
    wanted = target(tmp_path, "http://127.0.0.1:1/never")
    wanted.path.write_bytes(CONTENT)
    fetch_file(wanted, transfers)
    assert Records(tmp_path).is_verified("f.bin")


def test_wrong_file_placed_by_hand_is_refused_and_kept(
    tmp_path: Path, transfers: Transfers
) -> None:
    wanted = target(tmp_path, "http://127.0.0.1:1/never")
    wanted.path.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"f\.bin: has 14 bytes, expected 4194304\. Move that file"):
        fetch_file(wanted, transfers)
    assert wanted.path.read_bytes() == b"something else"


def test_verified_file_that_changed_is_noticed(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    wanted = target(tmp_path, server.serve("f.bin", CONTENT))
    check_arrives(wanted, transfers)
    wanted.path.write_bytes(CONTENT[::-1])
    with pytest.raises(DataError, match="sha256 is"):
        fetch_file(wanted, transfers)


def test_three_that_want_the_same_file_fetch_it_once(
    server: FaultyServer, tmp_path: Path, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, waits = fcntl.flock, []

    def noted_flock(descriptor: int, mode: int) -> None:
        if mode == fcntl.LOCK_EX:
            waits.append(descriptor)
        flock(descriptor, mode)

    monkeypatch.setattr(fcntl, "flock", noted_flock)
    go_on = threading.Event()
    wanted = target(tmp_path, server.serve("f.bin", CONTENT, go_on=go_on))
    threads = [threading.Thread(target=fetch_file, args=(wanted, transfers)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(
            lambda: len(server.requests("f.bin")) + len(waits) == len(threads),
            "each fetches the file or waits for its lock",
        )
    finally:
        go_on.set()
    for thread in threads:
        thread.join()
    assert wanted.path.read_bytes() == CONTENT
    assert len(server.requests("f.bin")) == 1


def test_stop_ends_a_transfer_and_keeps_what_came(server: FaultyServer, tmp_path: Path) -> None:
    wanted = target(tmp_path, server.serve("f.bin", CONTENT))
    transfers = Transfers()
    with pytest.raises(Stopped):
        fetch_file(wanted, transfers, on_bytes=lambda _: transfers.stop.set())
    assert 0 < wanted.part_path.stat().st_size < len(CONTENT)


def test_proxy_of_the_environment_is_used(
    server: FaultyServer, tmp_path: Path, transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["http://data.invalid/f.bin"] = Served(CONTENT)  # what a proxy is asked for
    monkeypatch.setenv("http_proxy", server.url)
    check_arrives(target(tmp_path, "http://data.invalid/f.bin"), transfers)
