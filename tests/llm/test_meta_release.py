"""Protects folders as Meta released them: names of LLaMA 1, shards and params.json that fit."""

import json
import shutil

import pytest
import torch

from ademvl.cli import main
from ademvl.config.run import BackboneSettings
from ademvl.errors import AdemvlError, WeightsError
from ademvl.llm.convert import convert_meta
from ademvl.llm.loading import load_llm
from ademvl.llm.meta_format import MetaCheckpoint
from ademvl.llm.meta_params import read_meta_params
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.planning.shapes import llm_shape
from tests.llm.meta_folders import HEADS, LAYERS, WIDTH, make_meta_folder

FREQS = torch.rand(WIDTH // HEADS // 2)
LLAMA_1 = {f"layers__{n}__attention__inner_attention__rope__freqs": FREQS for n in range(LAYERS)}


@pytest.mark.parametrize("unused", [LLAMA_1, {"rope__freqs": FREQS}, {}], ids=["1", "2", "none"])
def test_frequencies_of_every_release_are_left_out(tmp_path, unused):
    plain = make_meta_folder(tmp_path / "plain")
    folder = make_meta_folder(tmp_path / "release", **unused)
    assert main(["backbones", "convert", str(folder), "--output", str(tmp_path / "out")]) == 0
    expected = load_llm(BackboneSettings(llm=str(plain))).state_dict()
    found = load_llm(BackboneSettings(llm=str(tmp_path / "out"))).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_several_shards_are_one_model(tmp_path):
    one = make_meta_folder(tmp_path / "one")
    four = make_meta_folder(tmp_path / "four", shards=4)
    models = [load_llm(BackboneSettings(llm=str(path))).state_dict() for path in (one, four)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


PARAMS = {
    "n_heads 5": ({"n_heads": 5}, "dim 32 does not divide into n_heads 5"),
    "n_heads odd width": ({"n_heads": 32}, "does not divide into n_heads 32 heads of an even"),
    "n_heads 0": ({"n_heads": 0}, "n_heads is 0, expected a whole number"),
    "n_heads other": ({"n_heads": 8}, "n_heads is 8, which makes heads 4 wide.* are 8 wide"),
    "dim other": ({"dim": 64}, "dim is 64, but the shards are 32 wide|consolidated"),
    "dim text": ({"dim": "32"}, "dim is '32', expected a whole number"),
    "dim float": ({"dim": 32.0}, r"dim is 32\.0, expected a whole number"),
    "dim true": ({"dim": True}, "dim is True"),
    "n_layers more": ({"n_layers": 3}, "n_layers is 3, but the shards hold 2 layers"),
    "n_layers fewer": ({"n_layers": 1}, "n_layers is 1, but the shards hold 2 layers"),
    "n_layers null": ({"n_layers": None}, "n_layers is None"),
    "n_kv_heads": ({"n_kv_heads": 3}, "n_heads 4 does not divide by n_kv_heads 3"),
    "n_kv_heads fewer": ({"n_kv_heads": 2}, r"attention\.wk\.weight: shape"),
    "norm_eps text": ({"norm_eps": "1e-6"}, "norm_eps is '1e-6', expected a number"),
    "norm_eps 5": ({"norm_eps": 5}, "norm_eps is 5, expected a number between 0 and 1"),
    "norm_eps nan": ({"norm_eps": float("nan")}, "norm_eps is nan"),
    "rope_theta": ({"rope_theta": -1}, "rope_theta is -1, expected a number above 0"),
    "rope_theta huge": ({"rope_theta": 10**400}, "rope_theta is 10+, expected"),
    "vocab_size": ({"vocab_size": 7}, "vocab_size is 7, but the shards hold"),
    "vocab_size 0": ({"vocab_size": 0}, "vocab_size is 0, expected a whole number, or -1"),
    "multiple_of": ({"multiple_of": "256"}, "multiple_of is '256'"),
    "multiplier": ({"ffn_dim_multiplier": []}, r"ffn_dim_multiplier is \[\]"),
    "scaled": ({"use_scaled_rope": True}, "use_scaled_rope is not supported"),
}


@pytest.mark.parametrize("name", PARAMS)
def test_params_that_do_not_fit_are_named(tmp_path, name):
    params, message = PARAMS[name]
    folder = make_meta_folder(tmp_path / "release", params=params, **LLAMA_1)
    with pytest.raises(WeightsError, match=message):
        MetaCheckpoint.open(folder)


@pytest.mark.parametrize("missing", ["dim", "n_layers", "n_heads", "norm_eps"])
def test_params_that_lack_an_entry_are_named(tmp_path, missing):
    folder = make_meta_folder(tmp_path / "release")
    content = json.loads((folder / "params.json").read_text())
    del content[missing]
    (folder / "params.json").write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=f"{missing} is missing"):
        MetaCheckpoint.open(folder)


@pytest.mark.parametrize("text", ["[]", "3", "null", "", "{", '{"dim": 32, "dim": 64}'])
def test_params_that_are_no_object_end_in_a_sentence(tmp_path, text):
    path = tmp_path / "params.json"
    path.write_text(text)
    with pytest.raises(AdemvlError, match=r"params\.json"):
        read_meta_params(path)


def test_the_command_ends_with_2_and_a_sentence(tmp_path, capsys):
    folder = make_meta_folder(tmp_path / "release", params={"n_heads": 5})
    assert main(["backbones", "convert", str(folder), "--output", str(tmp_path / "out")]) == 2
    assert "params.json: fits no LLaMA model" in capsys.readouterr().err


def test_a_plan_refuses_them_too(tmp_path):
    folder = make_meta_folder(tmp_path / "release", params={"n_heads": 5})
    with pytest.raises(WeightsError, match=r"params\.json"):
        llm_shape(BackboneSettings(llm=str(folder)))


def _copy(folder, name, copy):
    shutil.copy(folder / name, folder / copy)


SHARDS = {
    "last missing": (
        lambda folder: (folder / "consolidated.03.pth").unlink(),
        r"consolidated\.03\.pth: missing; 4 shards make the model",
    ),
    "middle missing": (
        lambda folder: (folder / "consolidated.01.pth").unlink(),
        r"consolidated\.01\.pth: missing",
    ),
    "first missing": (
        lambda folder: (folder / "consolidated.00.pth").unlink(),
        r"consolidated\.00\.pth: missing",
    ),
    "one doubled": (
        lambda folder: _copy(folder, "consolidated.01.pth", "consolidated.02.pth"),
        r"consolidated\.02\.pth: holds the weights of consolidated\.01\.pth once more",
    ),
    "one too many": (
        lambda folder: _copy(folder, "consolidated.00.pth", "consolidated.04.pth"),
        r"consolidated\.04\.pth: one too many; 4 shards make the model",
    ),
    "a browser's copy": (
        lambda folder: _copy(folder, "consolidated.00.pth", "consolidated.00 (1).pth"),
        r"consolidated\.00 \(1\)\.pth: no shard's name",
    ),
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_that_are_missing_or_doubled_are_named(tmp_path, name):
    damage, message = SHARDS[name]
    folder = make_meta_folder(tmp_path / "release", shards=4)
    damage(folder)
    with pytest.raises(WeightsError, match=message):
        MetaCheckpoint.open(folder)


def test_shards_of_two_models_are_refused(tmp_path):
    folder = make_meta_folder(tmp_path / "release", shards=2)
    shard = torch.load(folder / "consolidated.01.pth", weights_only=True)
    torch.save({name: tensor * 2 for name, tensor in shard.items()}, folder / "consolidated.01.pth")
    with pytest.raises(WeightsError, match=r"consolidated\.01\.pth: of another model"):
        MetaCheckpoint.open(folder)


@pytest.mark.parametrize("content", [[1], {}, {"norm.weight": "text"}, 3])
def test_shards_without_tensors_are_named(tmp_path, content):
    folder = make_meta_folder(tmp_path / "release")
    torch.save(content, folder / "consolidated.00.pth")
    with pytest.raises(WeightsError, match=r"consolidated\.00\.pth: holds no tensors by name"):
        MetaCheckpoint.open(folder)


def test_tokenizers_of_llama_3_get_the_right_advice(tmp_path):
    folder = make_meta_folder(tmp_path / "release")
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\nIw== 2\n")
    for use in (
        lambda: convert_meta(folder, tmp_path / "out"),
        lambda: load_llm_tokenizer(BackboneSettings(llm=str(folder))),
    ):
        with pytest.raises(WeightsError, match=r"tiktoken.*Llama 3.*layout of transformers"):
            use()
