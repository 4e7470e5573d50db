"""Protects repositories of the hub: fetched by huggingface_hub, verified against its checksums."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback import QuietHandler, serving

COMMIT = "c" * 40
WEIGHTS = bytes(range(256)) * 4000
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"duplicate"}
# A process of its own: huggingface_hub reads HF_ENDPOINT once, when it is imported.
SCRIPT = """
import sys
from pathlib import Path
from ademvl.data.acquisition.hub import fetch_repository, is_fetched
from ademvl.data.acquisition.registry import HubRepository
from ademvl.errors import AdemvlError
hub = HubRepository(repository=sys.argv[2], patterns=("*.safetensors", "*.json"))
try:
    fetch_repository(Path(sys.argv[1]), hub, connections=2)
except AdemvlError as error:
    sys.exit(str(error))
assert is_fetched(Path(sys.argv[1]), hub)
"""


class Hub(QuietHandler):
    """The few answers of a hub that a snapshot needs."""

    served = FILES
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/model/tree/"):
            self.send(json.dumps(self.rows("path", "oid", "sha256_oid")).encode())
        elif path.startswith("/api/models/org/model"):
            info = {"id": "org/model", "sha": COMMIT, "siblings": self.rows("rfilename", "blobId")}
            self.send(json.dumps(info).encode())
        elif path.startswith(f"/org/model/resolve/{COMMIT}/"):
            name = path.rpartition("/")[2]
            self.send(self.served[name], etag=self.etag(name))
        else:
            self.send(b"", status=404)

    do_HEAD = do_GET

    def rows(self, name_key: str, id_key: str, style: str = "") -> list[dict[str, object]]:
        rows = []
        for name, content in FILES.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            row: dict[str, object] = {name_key: name, "size": len(content), id_key: blob}
            if style:
                row["type"] = "file"
            if name == "model.safetensors":
                sha256 = hashlib.sha256(content).hexdigest()
                row["lfs"] = {"size": len(content), "pointerSize": 130, "sha256": sha256}
                if style:
                    row["lfs"] = {"size": len(content), "pointerSize": 130, "oid": sha256}
            rows.append(row)
        return rows

    def etag(self, name: str) -> str:
        return hashlib.sha256(FILES[name]).hexdigest()

    def send(self, content: bytes, *, status: int = 200, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        if etag:
            self.send_header("ETag", f'"{etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Hub.served, Hub.asked = FILES, []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with serving(Hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


def fetch(folder: Path, repository: str = "org/model") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder), repository]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_wanted_files_arrive_and_are_not_asked_for_again(endpoint: str, tmp_path: Path) -> None:
    done = fetch(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert not (tmp_path / "pytorch_model.bin").exists()
    listing = json.loads((tmp_path / "hub.json").read_text(encoding="utf-8"))
    assert (listing["commit"], len(listing["files"])) == (COMMIT, 2)
    Hub.asked.clear()
    assert fetch(tmp_path).returncode == 0
    assert Hub.asked == []


def test_flipped_byte_is_refused_by_name(endpoint: str, tmp_path: Path) -> None:
    Hub.served = FILES | {"model.safetensors": b"x" + WEIGHTS[1:]}
    done = fetch(tmp_path)
    assert done.returncode == 1
    assert "model.safetensors: sha256 is" in done.stderr
    assert not (tmp_path / "hub.json").exists()
    Hub.served = FILES
    assert fetch(tmp_path).returncode == 0


def test_unknown_repository_is_explained(endpoint: str, tmp_path: Path) -> None:
    done = fetch(tmp_path, "org/absent")
    assert done.returncode == 1
    assert "org/absent: the Hugging Face hub does not give it" in done.stderr
    assert "backbones" in done.stderr
    assert "Traceback" not in done.stderr
