"""Protects downloads from Drive through gdown, against a local server in place of Google's."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import requests

from ademvl.data.acquisition import drive
from ademvl.data.acquisition.download import FileTarget, fetch_file
from ademvl.data.acquisition.registry import SourceFile
from ademvl.data.acquisition.transfer import Transfers
from ademvl.errors import DataError
from tests.data.acquisition.faulty_server import QUOTA_PAGE, Fault, FaultyServer

FOLDER_ENTRY = '<a href="https://drive.google.com/file/d/{id}/view"><div>{name}</div></a>'


@pytest.fixture
def google(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
    """Requests that go to drive.google.com reach the local server."""
    get = requests.Session.get

    def get_locally(session: requests.Session, url: str, **how: Any) -> requests.Response:
        return get(session, url.replace("https://drive.google.com", server.url), **how)

    monkeypatch.setattr(requests.Session, "get", get_locally)
    drive._folder_list.cache_clear()
    return server


def serve(google: FaultyServer, file_id: str, content: bytes, *faults: Fault) -> None:
    google.serve(
        f"uc?id={file_id}",
        content,
        faults,
        headers=(("Content-Disposition", 'attachment; filename="f.json"'),),
    )


def target(folder: Path, url: str, content: bytes | None) -> FileTarget:
    sha256 = hashlib.sha256(content).hexdigest() if content else ""
    file = SourceFile(name="f.json", urls=(url,), origin="here", sha256=sha256)
    return FileTarget(file, folder)


def test_file_arrives_over_cut_connections(
    google: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    content = b"[" + b"1," * 10**6 + b"1]"
    serve(google, "abc", content, Fault(cut_at=500_000), Fault(cut_at=1_500_000))
    wanted = target(tmp_path, "gdrive:abc", content)
    fetch_file(wanted, transfers)
    assert wanted.path.read_bytes() == content
    assert not wanted.aside.exists()


def test_quota_page_is_an_error_and_no_file(
    google: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    google.serve("uc?id=abc", QUOTA_PAGE, content_type="text/html; charset=utf-8")
    wanted = target(tmp_path, "gdrive:abc", None)
    with pytest.raises(DataError, match="Google Drive does not give it: Failed to retrieve"):
        fetch_file(wanted, transfers)
    assert not wanted.path.exists()


def test_wrong_bytes_are_refused(
    google: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    serve(google, "abc", b"[2]")
    wanted = target(tmp_path, "gdrive:abc", b"[1]")
    with pytest.raises(DataError, match="all bytes came, but sha256 is"):
        fetch_file(wanted, transfers)
    assert not wanted.path.exists()


def test_file_is_found_in_its_folder(
    google: FaultyServer, tmp_path: Path, transfers: Transfers
) -> None:
    entries = [("1" * 30, "other.json"), ("2" * 30, "f.json")]
    page = "".join(FOLDER_ENTRY.format(id=key, name=name) for key, name in entries)
    html = f"<html><head><title>ScienceQA</title></head><body>{page}</body></html>".encode()
    google.serve("embeddedfolderview?id=fold", html, content_type="text/html; charset=utf-8")
    serve(google, "2" * 30, b"[1]")
    fetch_file(target(tmp_path, "gdrive-folder:fold/f.json", b"[1]"), transfers)
    assert (tmp_path / "f.json").read_bytes() == b"[1]"
    missing = target(tmp_path / "more", "gdrive-folder:fold/absent.json", b"[1]")
    with pytest.raises(DataError, match=r"the Drive folder fold has no absent\.json"):
        fetch_file(missing, transfers)
