"""Recomputes golden case I: checkpoints that the reference wrote, read, written and read again."""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ademvl.golden.checks import Check
from ademvl.golden.files import GoldenSet
from ademvl.released.checkpoint import read_checkpoint, write_checkpoint
from ademvl.released.reference_names import from_reference


def check_checkpoints(golden_dir: Path) -> list[Check]:
    """Compare tensors, arguments and epoch of each checkpoint, imported and exported again."""
    golden = GoldenSet(golden_dir)
    details = golden.json("I_checkpoint")
    weights = from_reference(
        golden.require_tensors("models/adapter_init"), source="adapter_init.safetensors"
    )
    checks = []
    for name, file in details["files"].items():
        case = f"I_{name}"
        first = read_checkpoint(golden_dir / file)
        with tempfile.TemporaryDirectory() as folder:
            exported = Path(folder) / "exported.pth"
            write_checkpoint(exported, first)
            again = read_checkpoint(exported)
            with torch.serialization.safe_globals([argparse.Namespace]):
                names = torch.load(exported, weights_only=True)["model"].keys()
        checks += [
            _exact(case, "tensors", _num_unequal(first.state, weights)),
            _exact(case, "arguments", int(first.args != details["args"])),
            _exact(case, "epoch", int(first.epoch != details["epoch"])),
            _exact(case, "exported names", len(names ^ {*details[f"model_keys_{name}"]})),
            _exact(case, "exported and read again", _num_unequal(again.state, first.state)),
            _exact(case, "exported arguments", int(again.args != first.args)),
        ]
    return checks


def _num_unequal(mine: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int:
    differing = [
        name
        for name in mine.keys() & expected.keys()
        if mine[name].dtype != expected[name].dtype or not torch.equal(mine[name], expected[name])
    ]
    return len(differing) + len(mine.keys() ^ expected.keys())


def _exact(case: str, what: str, num_differences: int) -> Check:
    return Check(case, what, float(num_differences), 0.0)
