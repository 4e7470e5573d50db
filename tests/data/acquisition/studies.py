"""Small registries and studies that use them."""

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from ademvl.config.study import Study, load_study
from ademvl.data.acquisition.registry import Registry, load_registry

LICENSES = {
    "free": {"name": "Free", "url": ""},
    "llama": {"name": "LLaMA licence", "url": "https://example.org/llama", "must_accept": True},
}


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def file_entry(name: str, url: str, content: bytes | None, **more: object) -> dict[str, object]:
    """A file of a registry; its checksum is known where its content is given."""
    entry: dict[str, object] = {"name": name, "urls": [url], "origin": "test", **more}
    if content is not None:
        entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return entry


def write_registry(folder: Path, sources: dict[str, list[dict[str, object]]]) -> Path:
    """Write a registry in which `llama_*` sources have a licence that must be accepted."""
    raw = {
        "licenses": LICENSES,
        "sources": {
            name: {
                "title": name,
                "license": "llama" if name.startswith("llama") else "free",
                "page": "",
                "files": files,
            }
            for name, files in sources.items()
        },
    }
    path = folder / "sources.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def registry_of(folder: Path, sources: dict[str, list[dict[str, object]]]) -> Registry:
    return load_registry(write_registry(folder, sources))


def study_of(shared_dir: Path, **keys: Any) -> Study:
    """A study without data sets of its own; `extra_sources` says what it fetches."""
    raw = {
        "study": "tiny",
        "shared_dir": str(shared_dir),
        "results_dir": str(shared_dir / "results"),
        "datasets": {"easy_vqa": {}},
        "runs": {"run": {"dataset": "easy_vqa"}},
    }
    return load_study(raw | keys)
