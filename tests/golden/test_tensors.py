"""Protects parity with the reference implementation: golden cases A to E, and their verdicts."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from ademvl.errors import DataError
from ademvl.golden.tensors import check_fusion, check_pooling, check_vision
from ademvl.golden.training_cases import (
    check_forward,
    check_lr_table,
    check_trajectory,
    check_weights,
)
from ademvl.golden.verify import verify_golden

NUM_PARAMETERS = 16  # of the golden adapter, that of the last block included
NUM_STEPS = 6


def _failures(checks):
    assert checks
    return [check for check in checks if not check.passed]


@pytest.mark.parametrize(
    "check", [check_vision, check_pooling, check_fusion, check_weights, check_lr_table]
)
def test_parts_agree(check, golden_dir):
    assert _failures(check(golden_dir)) == []


def test_whole_passes_agree_in_states_losses_and_gradients(golden_dir):
    checks = check_forward(golden_dir)
    assert _failures(checks) == []
    compared = {(check.case, check.what) for check in checks}
    for what in ("features", "image_embeds", "cls_tokens", "inputs_embeds", "layer_out_3",
                 "logits", "labels_assembled", "loss"):  # fmt: skip
        assert ("D_cls", what) in compared
    num_gradients = {
        case: sum(c == case and what.startswith("grad.") for c, what in compared)
        for case in ("D_cls", "D_nocls", "D_alt", "D_trunc")
    }
    assert num_gradients == {"D_cls": 14, "D_nocls": 10, "D_alt": 14, "D_trunc": 14}


def test_optimizer_steps_agree(golden_dir):
    checks = check_trajectory(golden_dir)
    assert _failures(checks) == []
    assert sum(check.what.startswith("step") for check in checks) == NUM_STEPS * NUM_PARAMETERS


def _copy_pooling(golden_dir, folder):
    for path in golden_dir.glob("B_*"):
        shutil.copy(path, folder)


def test_a_wrong_number_fails(golden_dir, tmp_path, capsys):
    _copy_pooling(golden_dir, tmp_path)
    assert verify_golden(tmp_path) == 0
    assert "passed" in capsys.readouterr().out
    tensors = load_file(tmp_path / "B_sampler.safetensors")
    tensors["out_64"][0, 0, 0] += 1e-4
    save_file(tensors, tmp_path / "B_sampler.safetensors")
    assert verify_golden(tmp_path) == 1
    printed = capsys.readouterr().out
    assert "B_sampler" in printed
    assert "FAILED" in printed
    assert "out_64" in printed


def test_unknown_cases_are_named_and_do_not_fail(golden_dir, tmp_path, capsys):
    _copy_pooling(golden_dir, tmp_path)
    (tmp_path / "Z_future.json").write_text(json.dumps({}))
    assert verify_golden(tmp_path) == 0
    assert "Z: not known to this version, not checked" in capsys.readouterr().out


def test_folders_without_cases_are_refused(tmp_path):
    with pytest.raises(DataError, match="no golden cases"):
        verify_golden(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        verify_golden(tmp_path / "missing")
