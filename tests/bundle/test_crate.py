"""Protects the RO-Crate metadata of bundles: valid by roc-validator, in every way to make one.

The validator fetches the JSON-LD context from the web; here it gets the one of the library rocrate.
"""

import zipfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from ademvl.bundle.archive import write_bundle
from ademvl.bundle.collection import Extras
from ademvl.cli import main
from tests.bundle.finished import FinishedStudy

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
Findings = Callable[[Path], list[str]]


@pytest.fixture
def findings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """Return what finds the violated requirements of RO-Crate 1.1, of all that a crate MUST."""
    services = pytest.importorskip(
        "rocrate_validator.services", reason="needs roc-validator (extra dev)"
    )
    from rocrate_validator.models import Severity

    def send(self: HTTPAdapter, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        if request.url != CONTEXT:
            raise requests.ConnectionError(f"{request.url}: tests use no network")
        response = requests.Response()
        response.status_code, response.url, response.request = 200, CONTEXT, request
        response.headers["Content-Type"] = "application/ld+json"
        response._content = (files("rocrate") / "data" / "ro-crate.jsonld").read_bytes()
        return response

    def validate(bundle: Path) -> list[str]:
        folder = tmp_path / "unpacked"
        with zipfile.ZipFile(bundle) as archive:
            archive.extractall(folder)
        settings = services.ValidationSettings(
            rocrate_uri=str(folder),
            profile_identifier="ro-crate-1.1",
            requirement_severity=Severity.REQUIRED,
            no_cache=True,
        )
        result = services.validate(settings)
        return [f"{found.violatingEntity}: {found.message}" for found in result.get_issues()]

    monkeypatch.setattr(HTTPAdapter, "send", send)
    return validate


@pytest.mark.parametrize(
    "license_text", ["", "https://creativecommons.org/licenses/by/4.0/", "CC BY 4.0"]
)
def test_bundle_is_a_valid_crate_with_and_without_a_licence(
    tmp_path: Path, findings_of: Findings, license_text: str
) -> None:
    results = FinishedStudy(tmp_path).finish()
    extras = Extras(figures=True, adapters=True)
    write_bundle(results, tmp_path / "tiny.zip", extras, license_text=license_text)
    assert findings_of(tmp_path / "tiny.zip") == []


def test_bundle_of_unfinished_runs_is_a_valid_crate(tmp_path: Path, findings_of: Findings) -> None:
    results = FinishedStudy(tmp_path).finish(only=("other",))
    write_bundle(results, tmp_path / "tiny.zip")
    assert findings_of(tmp_path / "tiny.zip") == []


def test_validator_sees_a_licence_that_is_missing(tmp_path: Path, findings_of: Findings) -> None:
    """Else the tests above would show nothing."""
    results = FinishedStudy(tmp_path).finish()
    write_bundle(results, tmp_path / "tiny.zip", license_text="to be renamed")
    with zipfile.ZipFile(tmp_path / "tiny.zip") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = "ro-crate-metadata.json"
    entries[name] = entries[name].replace(b'"license": "to', b'"keywords": "to')
    with zipfile.ZipFile(tmp_path / "spoilt.zip", "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    (found,) = findings_of(tmp_path / "spoilt.zip")
    assert "MUST have a `license` property" in found


def test_bundle_without_a_licence_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = FinishedStudy(tmp_path).finish()
    assert main(["bundle", str(results), "--output", str(tmp_path / "tiny.zip")]) == 0
    assert "no licence was given (--license)" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "tiny.zip") as archive:
        assert b"No licence was given." in archive.read("ro-crate-metadata.json")
