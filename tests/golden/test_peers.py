"""Protects parity with other methods' released code, and that a difference or a gap is noticed."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ademvl.cli import main
from ademvl.errors import DataError
from ademvl.golden.peers import memvp
from ademvl.golden.peers.cases import Comparison
from ademvl.golden.peers.table import PEERS, find_peer, open_peer_set
from ademvl.golden.verify import verify_golden

CASES = {
    "llama_adapter": (
        *("A_v1_text", "B_v1_image_reconstructed", "C_v2_multimodal", "D_v2_generate"),
    ),
    "memvp": ("A_forward_train", "B_generate"),
    "flamingo": ("A_perceiver", "B_gated_block", "C_forward"),
    "vl_adapter": ("A_vlbart", "B_adapter_with_norms"),
    "mm_cot": ("A_t5", "B_flan_t5", "C_prompts"),
    "lavin": ("A_forward_train", "B_plain_visual_adapter", "C_generate"),
}


@pytest.fixture(scope="session")
def peers_dir(shared_dir):
    """Folder with one folder of golden tensors for each other method."""
    folder = shared_dir / "golden_peers"
    if not folder.is_dir():
        pytest.skip(f"golden tensors of other methods not found: {folder}")
    return folder


@pytest.fixture
def copied(peers_dir, tmp_path):
    for path in (peers_dir / "memvp").iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def _write_case(folder, name, tensors=()):
    content = {"tensors": {name: [] for name in tensors}}
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def test_every_peer_is_here():
    assert CASES.keys() == {peer.name for peer in PEERS}
    for peer in PEERS:
        assert tuple(peer.cases()) == CASES[peer.name]


@pytest.mark.parametrize(("name", "case"), [(n, case) for n in CASES for case in CASES[n]])
def test_every_recorded_number_of_a_case_is_reproduced(peers_dir, name, case):
    folder = peers_dir / name
    peer = find_peer(folder)
    assert peer is not None
    assert peer.name == name
    checks = peer.cases()[case](open_peer_set(folder, None))
    assert [check for check in checks if not check.passed] == []
    assert "nothing left out" in {check.what for check in checks}
    assert {check.case for check in checks} == {case}


@pytest.mark.parametrize("name", CASES)
def test_each_peer_is_known_by_its_tensors_whatever_its_folder_is_called(peers_dir, name):
    others = [path for path in peers_dir.iterdir() if path.is_dir() and path.name != name]
    assert find_peer(peers_dir / name).name == name
    assert name not in {peer.name for path in others if (peer := find_peer(path))}
    assert find_peer(peers_dir.parent / "golden") is None


def test_a_damaged_tensor_fails(copied, golden_dir, capsys):
    path = copied / "B_generate.safetensors"
    tensors = load_file(path)
    tensors["longer.logits"][3, 1, 5] += 1e-3
    save_file(tensors, path)
    assert main(["verify", "golden", str(copied), "--models", str(golden_dir)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("A_forward_train")
    assert first.endswith("passed")
    assert second.startswith("B_generate")
    assert second.endswith("FAILED")
    assert "longer.logits" in second


def test_folders_of_unknown_methods_are_named(copied, golden_dir, tmp_path_factory, capsys):
    (copied / "B_generate.json").unlink()
    folder = tmp_path_factory.mktemp("all")
    shutil.copytree(copied, folder / "one")
    (folder / "other").mkdir()
    (folder / "empty").mkdir()
    _write_case(folder / "other", "A_scores", ["param.something"])
    assert verify_golden(folder, models=golden_dir) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("one/A_forward_train")
    assert first.endswith("passed")
    assert second == "other/: not known to this version, not checked: A_scores"
    shutil.rmtree(folder / "one")
    with pytest.raises(DataError, match=r"all\d: other: cases of no method"):
        verify_golden(folder)
    shutil.rmtree(folder / "other")
    with pytest.raises(DataError, match=r"all\d: no golden cases here"):
        verify_golden(folder)


def test_missing_models_are_refused(tmp_path, capsys):
    _write_case(tmp_path, "A_forward_train", ["param.adapter_emb1"])
    assert main(["verify", "golden", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path) in message
    assert f"{tmp_path.parent.parent / 'golden'} does not hold them" in message
    assert "--models DIR" in message
    with pytest.raises(DataError, match=r"nowhere does not hold them"):
        verify_golden(tmp_path, models=tmp_path / "nowhere")


def test_models_are_found_beside_the_folder_of_methods(tmp_path, capsys):
    folder = tmp_path / "golden_peers" / "any_name"
    folder.mkdir(parents=True)
    (tmp_path / "golden" / "models").mkdir(parents=True)
    (tmp_path / "golden" / "models" / "model.json").write_text("{}")
    _write_case(folder, "A_future", ["param.adapter_emb1"])
    assert verify_golden(folder) == 0
    assert "A_future: not known to this version, not checked" in capsys.readouterr().out


def test_cases_of_an_unknown_method_are_not_read_as_the_references(tmp_path):
    _write_case(tmp_path, "A_forward_train", ["param.something"])
    _write_case(tmp_path, "D_scoring")
    with pytest.raises(DataError, match=r"A_forward_train, D_scoring: cases of no method.*memvp"):
        verify_golden(tmp_path)


def test_the_references_own_cases_take_no_models(tmp_path):
    _write_case(tmp_path, "B_sampler")
    with pytest.raises(DataError, match="omit --models"):
        verify_golden(tmp_path, models=tmp_path)


def test_what_is_not_covered_is_named(copied, golden_dir, monkeypatch, capsys):
    _write_case(copied, "C_scores")
    (copied / "A_forward_train.json").rename(copied / "A_other.json")
    (copied / "B_generate.json").unlink()
    left_out = {"A_other": {"all of it": ()}}
    monkeypatch.setattr(memvp, "NOT_COVERED", left_out, raising=False)
    assert verify_golden(copied, models=golden_dir) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "A_other: not covered: all of it"
    assert second == "C_scores: not known to this version, not checked"


def _comparison(**recorded):
    details = {"suggested_absolute_tolerance": {"states": 1e-3}}
    return Comparison("A_case", details, recorded)


def test_what_was_recorded_and_not_compared_fails():
    case = _comparison(one=torch.zeros(2), two=torch.zeros(2))
    case.tensor("one", torch.zeros(2), "states")
    *others, last = case.finish()
    assert all(check.passed for check in others)
    assert not last.passed
    assert last.what == "recorded but not compared: two"


def test_what_is_named_as_not_covered_passes_and_all_else_does_not():
    recorded = {"dec0_out": torch.zeros(2), "enc0_out": torch.zeros(2)}
    last = _comparison(**recorded).finish(left_out={"the decoder": ("dec*",)})[-1]
    assert last.what == "recorded but not compared: enc0_out"
    assert _comparison(**recorded).finish(left_out={"all": ("dec*", "enc*")})[-1].passed


def test_thinned_out_tensors_are_compared_at_their_rows():
    full = torch.randn(2, 257, 3, generator=torch.Generator().manual_seed(0))
    case = _comparison(**{"states.strided": full[:, ::32]})
    case.tensor("states", full, "states")
    case.tensor("states", full + 2e-3, "states")
    case.tensor("states", None, "states")
    case.tensor("states", full[:, :, :2], "states")
    assert [check.passed for check in case.checks] == [True, False, False, False]


def test_exact_comparisons_count_what_differs():
    case = _comparison()
    case.same("ids", [[1, 2], [3]], [[1, 2], [4]])
    case.same("lengths", [1, 2], [1, 2, 3])
    case.same_names("names", ["a", "b"], ["b", "c"])
    case.close("nothing", float("nan"), 1.0, 1e9)
    assert [check.error for check in case.checks[:3]] == [1, 1, 2]
    assert not any(check.passed for check in case.checks)
