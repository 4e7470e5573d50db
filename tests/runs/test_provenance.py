"""Protects provenance.json: complete, plain, and never overwritten by details."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ademvl.machine.usage import Usage
from ademvl.runs.provenance import sources_sha256, write_provenance


def _write(path: Path, **details: object) -> dict[str, object]:
    write_provenance(
        path,
        usage=Usage(wall_seconds=1.0, processes=1),
        started=datetime(2020, 1, 1, tzinfo=UTC),
        checksums={"data/problems.json": "sha256:0"},
        details=details,
    )
    return json.loads(path.read_text(encoding="utf-8"))


def test_file_says_what_ran_where_and_on_what(tmp_path: Path) -> None:
    content = _write(tmp_path / "provenance.json", seed=3)
    assert content["seed"] == 3
    assert content["code"]["sources_sha256"] == sources_sha256()
    assert content["started"] == "2020-01-01T00:00:00+00:00"
    assert content["hardware"]["cores"] >= 1
    assert content["hardware"]["cpu"]
    assert {"torch", "transformers"} <= content["packages"].keys()
    assert content["checksums"] == {"data/problems.json": "sha256:0"}


def test_details_cannot_replace_what_is_always_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="usage"):
        _write(tmp_path / "provenance.json", usage="mine")
