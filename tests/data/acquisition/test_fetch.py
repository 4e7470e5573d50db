"""Protects fetching for a study: offline, licences, room on the disk, kills, what is redone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ademvl.data.acquisition.fetch import fetch_study
from ademvl.data.acquisition.registry import Registry
from ademvl.data.acquisition.transfer import Transfers
from ademvl.data.acquisition.unpack import is_unpacked, unpack_archives
from ademvl.data.acquisition.zip_images import read_image_bytes
from ademvl.errors import AdemvlError, DataError, SettingsError
from tests.conftest import PROJECT_ROOT
from tests.data.acquisition.conftest import random_bytes
from tests.data.acquisition.faulty_server import Fault, FaultyServer
from tests.data.acquisition.studies import (
    file_entry,
    registry_of,
    study_of,
    write_registry,
    zipped,
)
from tests.waiting import wait_until

IMAGES = {f"train/{number}.png": random_bytes(3000, seed=number) for number in range(200)}
TEXT = {"annotations/a.json": b"[1]"}


@pytest.fixture
def registry(server: FaultyServer, tmp_path: Path) -> Registry:
    """A source of three files: archives of images and text, and a JSON without checksum."""
    images, text = zipped(IMAGES), zipped(TEXT)
    files = [
        file_entry("train.zip", server.serve("train.zip", images), images, unpack_to="images"),
        file_entry("text.zip", server.serve("text.zip", text), text, unpack_to="."),
        file_entry("list.json", server.serve("list.json", b"[2]"), None),
    ]
    files[0]["images"] = True
    llama = [file_entry("weights.bin", server.serve("weights.bin", b"weights"), b"weights")]
    return registry_of(tmp_path, {"things": files, "llama_x": llama})


def fetch(shared: Path, registry: Registry, transfers: Transfers, **downloads: object) -> None:
    study = study_of(shared, downloads={"extra_sources": ["things"], **downloads})
    fetch_study(study, registry=registry, transfers=transfers)


def refusal(
    shared: Path, registry: Registry, transfers: Transfers, **downloads: object
) -> AdemvlError:
    with pytest.raises(AdemvlError) as caught:
        fetch(shared, registry, transfers, **downloads)
    return caught.value


def test_everything_arrives_and_is_unpacked(
    registry: Registry, tmp_path: Path, transfers: Transfers
) -> None:
    fetch(tmp_path, registry, transfers)
    unpacked = tmp_path / "unpacked/things"
    assert {
        path.relative_to(unpacked / "images").as_posix(): path.read_bytes()
        for path in (unpacked / "images").rglob("*.png")
    } == IMAGES
    assert (unpacked / "annotations/a.json").read_bytes() == b"[1]"
    marker = json.loads((tmp_path / "downloads/things/complete.json").read_text(encoding="utf-8"))
    assert sorted(marker["files"]) == ["list.json", "text.zip", "train.zip"]


def test_images_stay_packed_when_told_so(
    registry: Registry, tmp_path: Path, transfers: Transfers
) -> None:
    fetch(tmp_path, registry, transfers, unpack=False)
    assert not (tmp_path / "unpacked/things/images").exists()
    assert (tmp_path / "unpacked/things/annotations/a.json").exists()
    for name, content in IMAGES.items():
        assert read_image_bytes(tmp_path / "downloads/things" / name) == content


def test_second_call_asks_the_server_nothing(
    registry: Registry, server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    fetch(tmp_path, registry, transfers)
    marker = (tmp_path / "downloads/things/complete.json").read_bytes()
    fetch(tmp_path, registry, transfers, offline=True)
    assert len(server.requests("train.zip")) == 1
    assert (tmp_path / "downloads/things/complete.json").read_bytes() == marker


def test_archives_may_be_deleted_once_unpacked(
    registry: Registry, server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    fetch(tmp_path, registry, transfers)
    (tmp_path / "downloads/things/train.zip").unlink()
    fetch(tmp_path, registry, transfers, offline=True)
    assert len(server.requests("train.zip")) == 1


def test_offline_lists_all_that_is_missing(
    registry: Registry, server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    error = refusal(tmp_path, registry, transfers, offline=True)
    assert isinstance(error, DataError)
    message = str(error)
    assert "downloads.offline is true, and these files are missing (3 found)" in message
    assert f"{tmp_path}/downloads/things/list.json: size unknown, from {server.url}" in message
    assert server.requests("train.zip") == []


def test_licence_must_be_accepted_and_the_error_says_how(
    registry: Registry, server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    error = refusal(tmp_path, registry, transfers, extra_sources=["llama_x"])
    assert isinstance(error, SettingsError)
    assert "llama_x: LLaMA licence, https://example.org/llama" in str(error)
    assert "downloads:\n    accepted_licenses: [llama]" in str(error)
    assert server.requests("weights.bin") == []
    fetch(tmp_path, registry, transfers, extra_sources=["llama_x"], accepted_licenses=["llama"])
    assert (tmp_path / "downloads/llama_x/weights.bin").read_bytes() == b"weights"


def test_one_failing_file_does_not_stop_the_others(
    registry: Registry, server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    server.files["/text.zip"].forever = Fault(status=404)
    error = refusal(tmp_path, registry, transfers)
    assert "text.zip: no address gave the right file" in str(error)
    assert (tmp_path / "downloads/things/train.zip").exists()
    assert not (tmp_path / "downloads/things/complete.json").exists()


def test_disk_too_small_is_said_before_anything_is_fetched(
    server: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    entry = file_entry("big.bin", server.serve("big.bin", b""), None, bytes=10**18)
    registry = registry_of(tmp_path, {"things": [entry]})
    message = str(refusal(tmp_path, registry, transfers))
    assert "1e+06 TB are to be fetched and 0 B to be unpacked" in message
    assert server.requests("big.bin") == []


def test_full_disk_while_fetching_leaves_a_state_to_go_on_from(
    server: FaultyServer, tmp_path: Path, small_disk: Path, transfers: Transfers
) -> None:
    content = b"[" + b"1," * 10**6 + b"1]"
    url = server.serve("big.json", content)
    registry = registry_of(tmp_path, {"things": [file_entry("big.json", url, None)]})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    message = str(refusal(small_disk, registry, transfers))
    assert "big.json.part: the disk is full" in message
    assert "run the same command again" in message
    arrived = (small_disk / "downloads/things/big.json.part").stat().st_size
    assert 500_000 < arrived < len(content)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    fetch(small_disk, registry, transfers)
    assert (small_disk / "downloads/things/big.json").read_bytes() == content
    assert server.requests("big.json")[-1]["Range"] == f"bytes={arrived}-"


def test_full_disk_while_unpacking_is_said_before_it_starts(
    server: FaultyServer, tmp_path: Path, small_disk: Path, transfers: Transfers
) -> None:
    content = zipped({"train/zeros": bytes(100) * 10**5 + random_bytes(10**5)})
    url = server.serve("a.zip", content)
    entry = file_entry("a.zip", url, content, unpack_to=".")
    message = str(refusal(small_disk, registry_of(tmp_path, {"things": [entry]}), transfers))
    assert "10.1 MB are to be unpacked" in message
    assert (small_disk / "downloads/things/complete.json").exists()


def test_disk_that_fills_up_while_unpacking_leaves_a_state_to_go_on_from(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number}.png": random_bytes(40_000, seed=number) for number in range(100)}
    archive, out = tmp_path / "a.zip", small_disk / "unpacked"
    archive.write_bytes(zipped(files))
    with monkeypatch.context() as patch:  # as if others had filled the disk since it was looked at
        patch.setattr("ademvl.data.acquisition.unpack._check_room", lambda *_: None)
        with pytest.raises(DataError, match=r"the disk is full .* what is unpacked stays"):
            unpack_archives(out, {archive: "."}, {"a.zip": "sha"})
    assert 0 < len(list(out.glob("*.png"))) < 100
    assert not is_unpacked(out, {"a.zip": "sha"})
    subprocess.run(["mount", "-o", "remount,size=80m", str(small_disk)], check=True)
    unpack_archives(out, {archive: "."}, {"a.zip": "sha"})
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == files


SCRIPT = """
import itertools, sys, time
from pathlib import Path
from ademvl.data.acquisition import unpack
from ademvl.data.acquisition.fetch import fetch_study
from ademvl.data.acquisition.registry import load_registry
from tests.data.acquisition.studies import study_of
registry, shared, most_entries = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
unpack_entry, entries = unpack._unpack_entry, itertools.count()
def unpack_until_enough(*arguments):
    if next(entries) >= most_entries:
        time.sleep(600)  # until it is killed
    unpack_entry(*arguments)
unpack._unpack_entry = unpack_until_enough
study = study_of(shared, downloads={"extra_sources": ["things"]})
fetch_study(study, registry=load_registry(registry))
"""


def start(registry: Path, shared: Path, *, most_entries: int = 10**6) -> subprocess.Popen[bytes]:
    """Start fetching; after so many entries of archives it stands still."""
    command = [sys.executable, "-c", SCRIPT, str(registry), str(shared), str(most_entries)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment)


def kill_when(process: subprocess.Popen[bytes], is_time: Callable[[], bool], what: str) -> None:
    """Kill -9 as soon as `is_time`, which must be before it ends."""
    wait_until(is_time, what, processes=[process])
    process.kill()
    process.wait()


def test_killed_download_and_killed_unpacking_complete_by_the_same_command(
    server: FaultyServer, tmp_path: Path
) -> None:
    images = {f"train/{number}.png": random_bytes(2000, seed=number) for number in range(2000)}
    content = zipped(images)
    stalls = (300_000, 1_000_000)
    url = server.serve("train.zip", content, [Fault(stall_at=place) for place in stalls])
    entry = file_entry("train.zip", url, content, unpack_to="images", images=True)
    registry, shared = write_registry(tmp_path, {"things": [entry]}), tmp_path / "shared"
    part = shared / "downloads/things/train.zip.part"
    for place in stalls:
        kill_when(
            start(registry, shared),
            lambda place=place: part.exists() and part.stat().st_size == place,
            f"{place} bytes have come",
        )
        assert not (shared / "downloads/things/train.zip").exists()
    for count in (100, 700):
        kill_when(
            start(registry, shared, most_entries=count),
            lambda count=count: len(list(shared.rglob("*.png"))) == count,
            f"{count} files are unpacked",
        )
        assert not (shared / "unpacked/things/.complete.json").exists()
    assert start(registry, shared).wait() == 0
    unpacked = shared / "unpacked/things/images"
    assert {
        path.relative_to(unpacked).as_posix(): path.read_bytes()
        for path in unpacked.rglob("*")
        if path.is_file()
    } == images
    assert (shared / "unpacked/things/.complete.json").exists()
    asked = [headers.get("Range") for headers in server.requests("train.zip")]
    assert asked[0] is None
    assert all(asked[1:])
