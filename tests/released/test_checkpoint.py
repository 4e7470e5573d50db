"""Protects reading of checkpoints: what the authors wrote comes in, nothing is ever executed."""

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ademvl.cli import main
from ademvl.errors import WeightsError
from ademvl.golden.checkpoints import check_checkpoints
from ademvl.released.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

MODEL = {"adapter_emb1": torch.ones(1, 4, 2), "adapter_emb2": torch.zeros(1, 4, 2)}


def test_golden_checkpoints_come_in_and_go_out_bit_for_bit(golden_dir):
    checks = check_checkpoints(golden_dir)
    assert {check.case for check in checks} == {"I_plain", "I_ddp"}
    assert [check for check in checks if not check.passed] == []


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class FromNamespace(argparse.Namespace):
    def __reduce__(self):
        return argparse.Namespace, (), {"x": Runs(os.system, "touch pwned")}


HOSTILE = {
    "os.system": lambda: Runs(os.system, "touch pwned"),
    "builtins.eval": lambda: Runs(eval, "open('pwned', 'w')"),
    "builtins.getattr": lambda: Runs(getattr, "", "__class__"),
    "pathlib.PosixPath": lambda: Path("x"),
}


@pytest.mark.parametrize("place", ["args", "optimizer", "extra"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(tmp_path, monkeypatch, name, place):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hostile.pth"
    torch.save({"model": MODEL, place: HOSTILE[name]()}, file)
    with pytest.raises(WeightsError, match=r"hostile\.pth: refused, because it asks for") as error:
        read_checkpoint(file)
    assert "weights_only" not in str(error.value)
    assert not (tmp_path / "pwned").exists()


def test_what_hides_inside_the_arguments_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "hidden.pth"
    torch.save({"model": MODEL, "args": FromNamespace()}, file)
    with pytest.raises(WeightsError, match="refused"):
        read_checkpoint(file)
    assert not (tmp_path / "pwned").exists()


def test_plain_pickles_and_other_zips_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Runs(os.system, "touch pwned")))
    with pytest.raises(WeightsError, match=r"plain\.pth"):
        read_checkpoint(plain)
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs(os.system, "touch pwned")))
    with pytest.raises(WeightsError, match=r"other\.pth"):
        read_checkpoint(tmp_path / "other.pth")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("num_bytes", [0, 1, 100, 2000])
def test_damaged_files_are_named(golden_dir, tmp_path, num_bytes):
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes((golden_dir / "I_checkpoint_plain.pth").read_bytes()[:num_bytes])
    with pytest.raises(WeightsError, match=r"damaged\.pth"):
        read_checkpoint(damaged)
    with pytest.raises(WeightsError, match="no such file"):
        read_checkpoint(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no entry `model`"),
        ({"weights": MODEL}, "holds no entry `model`"),
        ({"model": {**MODEL, "adapter_emb1": "text"}}, "adapter_emb1: str, expected a tensor"),
        ({"model": {**MODEL, "adapter_emb2": torch.tensor([[float("nan")]])}}, "not finite"),
        ({"model": {"layers.0.attention.wq.weight": torch.ones(2, 2)}}, "tensors not known"),
        ({"model": MODEL, "args": 3}, "args is int"),
    ],
)
def test_files_without_an_adapter_are_named(tmp_path, content, message):
    file = tmp_path / "other.pth"
    torch.save(content, file)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(file)


def test_arguments_that_hold_themselves_are_refused(tmp_path):
    endless: list[object] = []
    endless.append(endless)
    torch.save({"model": MODEL, "args": {"lr": endless}}, tmp_path / "endless.pth")
    with pytest.raises(WeightsError, match="nested without end"):
        read_checkpoint(tmp_path / "endless.pth")


def test_files_without_arguments_or_epoch_are_read(tmp_path):
    file = tmp_path / "bare.pth"
    torch.save({"model": OrderedDict(MODEL)}, file)
    checkpoint = read_checkpoint(file)
    assert (checkpoint.args, checkpoint.epoch, checkpoint.is_distributed) == ({}, None, False)
    assert checkpoint.state["key_table"].shape == (4, 2)


def test_values_survive_export(tmp_path):
    args = {"scales": [256, 64], "lr": 0.1, "name": "a", "clip_grad": None, "no_cls": False}
    checkpoint = Checkpoint({"key_table": torch.rand(4, 2)}, args, 3, is_distributed=True)
    write_checkpoint(tmp_path / "out.pth", checkpoint)
    again = read_checkpoint(tmp_path / "out.pth")
    assert (again.args, again.epoch, again.is_distributed) == (args, 3, True)
    assert torch.equal(again.state["key_table"], checkpoint.state["key_table"])


def _safetensors(model, path):
    save_file({name: tensor.contiguous() for name, tensor in model.items()}, path)


LAYOUTS = {
    "model.pth": lambda path: torch.save({"model": MODEL}, path),
    "state_dict.pth": lambda path: torch.save({"state_dict": MODEL, "epoch": 1}, path),
    "model_state_dict.pt": lambda path: torch.save({"model_state_dict": MODEL}, path),
    "flat.pth": lambda path: torch.save(MODEL, path),
    "flat_with_arguments.pth": lambda path: torch.save(
        {**MODEL, "args": argparse.Namespace(dataset="sqa"), "epoch": 3}, path
    ),
    "module.pth": lambda path: torch.save(_prefixed("module."), path),
    "orig_mod.pth": lambda path: torch.save({"model": _prefixed("_orig_mod.")}, path),
    "both.pth": lambda path: torch.save({"model": _prefixed("module._orig_mod.")}, path),
    "both_turned.pth": lambda path: torch.save(_prefixed("_orig_mod.module."), path),
    "flat.safetensors": lambda path: _safetensors(MODEL, path),
    "module.safetensors": lambda path: _safetensors(_prefixed("module."), path),
}


def _prefixed(prefix):
    return {f"{prefix}{name}": tensor for name, tensor in MODEL.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_tensors_are_found_in_every_layout(tmp_path, caplog, name):
    path = tmp_path / name
    LAYOUTS[name](path)
    checkpoint = read_checkpoint(path)
    assert torch.equal(checkpoint.state["key_table"], torch.ones(4, 2))
    assert torch.equal(checkpoint.state["value_table"], torch.zeros(4, 2))
    assert checkpoint.state.keys() == {"key_table", "value_table"}
    assert checkpoint.is_distributed == ("module" in name or "both" in name)
    assert ("holds no arguments" in caplog.text) == (not checkpoint.args)


def test_one_tensor_under_two_names_is_refused(tmp_path):
    path = tmp_path / "twice.pth"
    torch.save({"model": {**MODEL, **_prefixed("module.")}}, path)
    with pytest.raises(WeightsError, match="several tensors of one name"):
        read_checkpoint(path)


BROKEN_SAFETENSORS = {
    "truncated": lambda whole: whole[:92],
    "a header of 2^60 bytes": lambda _: (1 << 60).to_bytes(8, "little") + b"{}",
    "header alone": lambda whole: whole[: 8 + int.from_bytes(whole[:8], "little")],
    "five bytes": lambda whole: whole[:5],
    "header no JSON": lambda whole: whole[:8] + b"\0" * (len(whole) - 8),
}


@pytest.mark.parametrize("name", BROKEN_SAFETENSORS)
def test_damaged_safetensors_are_named(tmp_path, capsys, name):
    path = tmp_path / "adapter.safetensors"
    _safetensors(MODEL, path)
    path.write_bytes(BROKEN_SAFETENSORS[name](path.read_bytes()))
    arguments = ["adapter", "import", str(path), "--output", str(tmp_path / "out")]
    arguments += ["--llm", "mini", "--tower", "mini", "--tower-weights", ""]
    assert main(arguments) == 2
    assert f"{path}: damaged, get it again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_web_page_is_no_checkpoint(tmp_path, capsys):
    path = tmp_path / "checkpoint.pth"
    path.write_text("<!DOCTYPE html><html><head><title>Quota exceeded</title></head></html>\n")
    arguments = ["adapter", "import", str(path), "--output", str(tmp_path / "out")]
    arguments += ["--llm", "mini", "--tower", "mini", "--tower-weights", "", "--precision", "fp32"]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert f"{path}: is a web page (a download that was refused), not a file of weights" in message
    assert "trust" not in message
