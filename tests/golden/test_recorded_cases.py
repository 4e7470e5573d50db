"""Protects the cases that ship with the package: they are the recorded ones, small, and checked."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ademvl.cli import main
from ademvl.errors import DataError
from ademvl.golden.peers.table import PEERS
from ademvl.golden.verify import (
    KNOWN_LETTERS,
    RECORDED_CASES,
    unpacked_cases,
    verify_golden,
    verify_recorded,
)
from tests.conftest import PROJECT_ROOT

MAX_BYTES = 8_000_000  # of recorded tensors in the whole repository


@pytest.fixture(scope="module")
def unpacked():
    with unpacked_cases() as folders:
        yield folders


def test_recorded_tensors_in_the_repository_stay_small():
    in_tests = [
        path
        for ending in ("safetensors", "pth", "xz")
        for path in (PROJECT_ROOT / "tests").rglob(f"*.{ending}")
    ]
    size = sum(path.stat().st_size for path in (RECORDED_CASES, *in_tests))
    assert size <= MAX_BYTES


def test_every_kind_of_case_is_there(unpacked):
    own, others = unpacked
    assert {path.name[0] for path in own.glob("[A-Z]_*.json")} == {*KNOWN_LETTERS}
    assert {path.name for path in others.iterdir() if path.is_dir()} == {p.name for p in PEERS}
    for folder in unpacked:
        listed = json.loads((folder / "manifest.json").read_text())["files"]
        present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert {*listed} == present - {"manifest.json"}


def test_no_number_was_changed(unpacked, shared_dir):
    for folder in unpacked:
        for path in folder.rglob("*.safetensors"):
            whole = load_file(shared_dir / folder.name / path.relative_to(folder))
            for name, tensor in load_file(path).items():
                if path.stem == "A_vision":  # one of the pictures
                    whole[name] = whole[name][: len(tensor)]
                if path.stem == "G_tokens":  # some of the rows
                    whole[name] = whole[name][_rows(folder, shared_dir)]
                assert torch.equal(tensor, whole[name]), (path, name)


@pytest.mark.parametrize(
    ("case", "name", "others"),
    [
        ("C_fusion", "ties_drop0.5.grad_adapter_emb2", ["B_sampler"]),
        ("vl_adapter/A_vlbart", "enc0_ff_adapter", ["vl_adapter/B_adapter_with_norms"]),
    ],
)
def test_another_number_than_the_recorded_one_fails(unpacked, tmp_path, capsys, case, name, others):
    own, peers = unpacked
    shutil.copytree(own / "models", tmp_path / "golden" / "models")
    for pattern in ("B_*", "C_*"):
        for path in own.glob(pattern):
            shutil.copyfile(path, tmp_path / "golden" / path.name)
    shutil.copytree(peers / "vl_adapter", tmp_path / "golden_peers" / "vl_adapter")
    folder = tmp_path / ("golden_peers" if "/" in case else "golden")
    path = folder / f"{case}.safetensors"
    tensors = load_file(path)
    tensors[name].view(-1)[7] += 1e-3
    save_file(tensors, path)
    assert verify_golden(folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("passed")] == others
    (failed,) = [line for line in lines if line.endswith("FAILED")]
    assert failed.startswith(case)
    assert name in failed


def test_a_damaged_archive_is_named(tmp_path):
    archive = tmp_path / "cases.tar.xz"
    archive.write_bytes(RECORDED_CASES.read_bytes()[:100_000])
    for path in (archive, tmp_path / "missing.tar.xz"):
        message = rf"{path.name}: cannot be unpacked .* install ademvl"
        with pytest.raises(DataError, match=message), unpacked_cases(path):
            pass


def test_models_go_with_a_folder(capsys):
    assert main(["verify", "golden", "--models", "golden"]) == 2
    assert "--models goes with a folder" in capsys.readouterr().err


@pytest.mark.slow
def test_all_of_them_pass(capsys):
    assert verify_recorded() == 0
    assert "FAILED" not in capsys.readouterr().out


def _rows(folder, shared_dir):
    """Rows of the whole case that were kept."""
    kept, every = (
        json.loads((each / "G_tokens.json").read_text())["order"]
        for each in (folder, shared_dir / folder.name)
    )
    return [every.index(question) for question in kept]
