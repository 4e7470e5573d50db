"""A hub on loopback that speaks what huggingface_hub calls to create, upload, list and download.

Large files go by the LFS protocol, whose server checks their SHA-256; others stand in the commit.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.loopback import QuietHandler, serving

TOKEN = "hf_loopback"


@dataclass
class Repository:
    """Files at the newest commit, and the commits themselves, oldest first."""

    is_private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)


class LoopbackHub:
    """What the hub holds, and how it misbehaves.

    Attributes:
        flipped: name of a file that is served with a wrong last byte.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.flipped = ""
        self.url = ""


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    state: LoopbackHub

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, parts = self.path.partition("?")[0], self.path.partition("?")[0].split("/")
        if path == "/api/validate-yaml":
            found, status = _validated(json.loads(content)["content"])
            return self.answer(found, status=status)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid username or password."}, status=401)
        if path == "/api/repos/create":
            return self.create(json.loads(content))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(content))
        if path == "/lfs/verify":
            found = json.loads(content)
            is_there = len(self.state.stored.get(found["oid"], b"")) == found["size"]
            return self.answer({}, status=200 if is_there else 404)
        if "preupload" in parts:
            return self.preupload(json.loads(content))
        if "commit" in parts:
            return self.commit("/".join(parts[3:5]), content.decode().splitlines())
        return self.answer({"error": "no such call"}, status=404)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        is_right = hashlib.sha256(content).hexdigest() == oid
        if is_right:
            self.state.stored[oid] = content
        self.answer({}, status=200 if is_right else 400)

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].split("/")
        name = "/".join(parts[3:5] if parts[1] == "api" else parts[1:3])
        repository = self.state.repositories.get(name)
        is_allowed = repository and (
            not repository.is_private or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        )
        if not repository or not is_allowed or not repository.commits:
            return self.answer({"error": "Repository not found"}, status=404)
        if "tree" in parts:
            return self.answer(_rows(repository, "path", "oid"))
        if parts[1] == "api":
            siblings = _rows(repository, "rfilename", "blobId")
            info = {"id": name, "sha": repository.commits[-1], "siblings": siblings}
            return self.answer(info)
        file = "/".join(parts[5:])
        content = repository.files[file]
        headers = {
            "ETag": f'"{_oid(repository, file)}"',
            "X-Repo-Commit": repository.commits[-1],
        }
        if file == self.state.flipped:
            content = content[:-1] + bytes([content[-1] ^ 1])
        return self.send(content, headers=headers)

    do_HEAD = do_GET

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        status = 409 if name in self.state.repositories else 200
        is_private = asked.get("visibility") == "private"
        self.state.repositories.setdefault(name, Repository(is_private))
        self.answer({"url": f"{self.state.url}/{name}", "name": name}, status=status)

    def preupload(self, asked: dict[str, Any]) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in asked["files"]
        ]
        self.answer({"files": files})

    def batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for found in asked["objects"]:
            upload = {"href": f"{self.state.url}/lfs/{found['oid']}"}
            verify = {"href": f"{self.state.url}/lfs/verify"}
            is_new = found["oid"] not in self.state.stored
            actions = {"actions": {"upload": upload, "verify": verify}} if is_new else {}
            objects.append({**found, **actions})
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, name: str, lines: list[str]) -> None:
        repository = self.state.repositories[name]
        for line in map(json.loads, lines):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.state.stored[value["oid"]]
                repository.large.add(value["path"])
        commit = hashlib.sha1(repr(sorted(repository.files.items())).encode()).hexdigest()
        repository.commits.append(commit)
        url = f"{self.state.url}/{name}/commit/{commit}"
        self.answer({"success": True, "commitOid": commit, "commitUrl": url})

    def answer(self, value: object, *, status: int = 200) -> None:
        headers = {"Content-Type": "application/json"}
        if status == 404:
            headers["X-Error-Code"] = "RepoNotFound"
        self.send(json.dumps(value).encode(), status=status, headers=headers)

    def send(self, content: bytes, *, status: int = 200, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _validated(card: str) -> tuple[dict[str, Any], int]:
    """Read a card's front matter as strictly as the hub does: YAML with texts and a licence."""
    _, _, rest = card.partition("---\n")
    try:
        found = yaml.safe_load(rest.partition("\n---\n")[0])
        is_right = isinstance(found["license"], str) and isinstance(found["tags"], list)
    except (yaml.YAMLError, KeyError, TypeError):
        is_right = False
    errors = [] if is_right else [{"message": "wrong metadata"}]
    return {"warnings": [], "errors": errors}, 200 if is_right else 400


def _oid(repository: Repository, file: str) -> str:
    content = repository.files[file]
    if file in repository.large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _rows(repository: Repository, name_key: str, id_key: str) -> list[dict[str, Any]]:
    rows = []
    for name, content in repository.files.items():
        row: dict[str, Any] = {"type": "file", name_key: name, "size": len(content)}
        row[id_key] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if name in repository.large:
            oid = hashlib.sha256(content).hexdigest()
            key = "oid" if name_key == "path" else "sha256"
            row["lfs"] = {"size": len(content), "pointerSize": 130, key: oid}
        rows.append(row)
    return rows


@contextmanager
def running_hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()

    class Handler(_Handler):
        state = hub

    with serving(Handler) as hub.url:
        yield hub
