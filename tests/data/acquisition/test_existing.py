"""Protects copies of weights: found in both layouts, compared with what is known of them."""

import shutil
from pathlib import Path

import pytest

from ademvl.data.acquisition.existing import verify_copies
from ademvl.data.acquisition.fetch import fetch_study
from ademvl.data.acquisition.plan import plan_sources
from ademvl.data.acquisition.registry import load_registry
from ademvl.errors import DataError, SettingsError
from tests.data.acquisition.studies import study_of

# Meta's file, byte for byte: no newline at its end.
PARAMS = (
    b'{"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, '
    b'"norm_eps": 1e-06, "vocab_size": -1}'
)


def meta_copy(folder: Path, params: bytes = PARAMS) -> Path:
    (folder / "7B").mkdir(parents=True)
    (folder / "7B/params.json").write_bytes(params)
    return folder / "7B"


def test_right_copy_passes_and_needs_no_network(tmp_path: Path) -> None:
    folder = meta_copy(tmp_path)
    (folder / "consolidated.01.pth").write_bytes(b"of another model: nothing is known of it")
    study = study_of(
        tmp_path,
        backbones={"llama_7b": {"existing": str(folder)}},
        downloads={"offline": True},
    )
    assert plan_sources(study) == ()
    fetch_study(study)


def test_wrong_file_is_named_with_both_checksums(tmp_path: Path) -> None:
    folder = meta_copy(tmp_path, PARAMS + b"\n")
    (folder / "consolidated.00.pth").write_bytes(b"weights")
    (tmp_path / "tokenizer.model").write_bytes(b"pieces")
    study = study_of(tmp_path, backbones={"llama_7b": {"existing": str(folder)}})
    with pytest.raises(DataError) as caught:
        verify_copies(study, load_registry())
    message = str(caught.value)
    assert "differ from their release (3 found)" in message
    assert f"{folder}/params.json: sha256 is" in message
    assert f"{tmp_path}/tokenizer.model: sha256 is" in message
    assert "expected 700df0d3013b" in message


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (None, "is neither a file nor a folder"),
        ([], "has neither config.json (layout of transformers) nor params.json"),
        (["params.json"], "but no consolidated.*.pth"),
        (["config.json"], "but no weights"),
    ],
)
def test_copy_that_cannot_be_used_is_refused(
    tmp_path: Path, files: list[str] | None, expected: str
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in files or []:
        (folder / name).write_bytes(b"{}")
    if files is None:
        shutil.rmtree(folder)
    study = study_of(tmp_path, backbones={"llama_7b": {"existing": str(folder)}})
    with pytest.raises(SettingsError) as caught:
        plan_sources(study)
    assert f"backbones.llama_7b.existing: {folder}" in str(caught.value)
    assert expected in str(caught.value)
