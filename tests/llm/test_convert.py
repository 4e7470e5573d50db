"""Protects the conversion of Meta's layout: nothing lost, nothing half-written, little memory."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from ademvl.cli import main
from ademvl.config.run import BackboneSettings
from ademvl.errors import WeightsError
from ademvl.llm import convert
from ademvl.llm.convert import convert_meta
from ademvl.llm.kv_cache import cache_name
from ademvl.llm.loading import load_llm
from ademvl.llm.tokenizer import load_llm_tokenizer
from ademvl.storage.files import sha256_file
from tests.llm.stories import write_meta_folder

MAX_MEMORY_RATIO = 1.3


@pytest.fixture(scope="module")
def weights_dir(golden_dir):
    return golden_dir / "models" / "weights"


@pytest.mark.parametrize("name", ["7B", "13B"])
def test_one_and_several_shards_keep_every_weight(weights_dir, tmp_path, name):
    content = convert_meta(weights_dir / name, tmp_path / "out")
    expected = load_llm(BackboneSettings(llm=str(weights_dir / name)))
    found = load_llm(BackboneSettings(llm=str(tmp_path / "out")))
    assert content["num_parameters"] == sum(p.numel() for p in expected.parameters())
    assert found.state_dict().keys() == expected.state_dict().keys()
    for key, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor), key
    assert found.config.to_dict() | {"architectures": None} == expected.config.to_dict() | {
        "architectures": None,
        "_name_or_path": found.config.name_or_path,
    }
    tokenizer = load_llm_tokenizer(BackboneSettings(llm=str(tmp_path / "out")))
    assert tokenizer.vocab_size == found.config.vocab_size


def test_half_precision_stays_as_stored(weights_dir, tmp_path):
    folder = shutil.copytree(weights_dir / "7B", tmp_path / "fp16")
    shard = folder / "consolidated.00.pth"
    state = torch.load(shard, weights_only=True)
    torch.save({name: tensor.half() for name, tensor in state.items()}, shard)
    shutil.copy(weights_dir / "tokenizer.model", folder)
    convert_meta(folder, tmp_path / "out")
    from safetensors.torch import load_file

    parts = [load_file(path) for path in (tmp_path / "out").glob("*.safetensors")]
    assert {tensor.dtype for part in parts for tensor in part.values()} == {torch.float16}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "float16"


def test_a_stopped_conversion_goes_on_behind_its_last_part(weights_dir, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_part, written = convert._write_part, []

    def stop_at_the_fourth(path, tensors):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        return write_part(path, tensors)

    monkeypatch.setattr(convert, "_write_part", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        convert_meta(weights_dir / "13B", out)
    assert not (out / convert.CONVERSION_FILE).exists()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    monkeypatch.setattr(convert, "_write_part", write_part)

    content = convert_meta(weights_dir / "13B", out)

    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert sorted(before) == sorted(written)
    assert {name: after[name] for name in before} == before
    assert {name: part["sha256"] for name, part in content["files"].items()} == {
        path.name: sha256_file(path) for path in out.glob("*.safetensors")
    }


def test_a_finished_conversion_is_left_alone_and_another_model_replaces_it(weights_dir, tmp_path):
    out = tmp_path / "out"
    convert_meta(weights_dir / "7B", out)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    convert_meta(weights_dir / "7B", out)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before

    other = shutil.copytree(weights_dir / "7B", tmp_path / "other")
    shutil.copy(weights_dir / "tokenizer.model", other)
    shard = other / "consolidated.00.pth"
    state = torch.load(shard, weights_only=True)
    state["norm.weight"] += 1
    torch.save(state, shard)
    convert_meta(other, out)
    llm = load_llm(BackboneSettings(llm=str(out)))
    assert torch.equal(llm.model.norm.weight, state["norm.weight"])


def test_a_removed_part_is_written_again(weights_dir, tmp_path):
    content = convert_meta(weights_dir / "7B", tmp_path / "out")
    (tmp_path / "out" / next(iter(content["files"]))).unlink()
    convert_meta(weights_dir / "7B", tmp_path / "out")
    load_llm(BackboneSettings(llm=str(tmp_path / "out")))


def test_files_that_differ_from_the_release_are_refused(weights_dir, tmp_path):
    known = {"params.json": "0" * 64, "not_here.pth": "1" * 64}
    with pytest.raises(WeightsError, match=r"differs from the release \(1 found\)"):
        convert_meta(weights_dir / "7B", tmp_path / "out", known_sha256=known)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_what_is_missing_is_named(weights_dir, tmp_path):
    with pytest.raises(WeightsError, match="no model in Meta's layout"):
        convert_meta(tmp_path / "nowhere", tmp_path / "out")
    folder = shutil.copytree(weights_dir / "7B", tmp_path / "a" / "7B")
    with pytest.raises(WeightsError, match=r"no tokenizer\.model there or beside it"):
        convert_meta(folder, tmp_path / "out")
    shutil.copy(weights_dir.parents[2] / "real/stories260K/tok512.model", folder.parent)
    (folder.parent / "tok512.model").rename(folder.parent / "tokenizer.model")
    state = torch.load(folder / "consolidated.00.pth", weights_only=True)
    state["output.weight"] = state["output.weight"][:500]
    state["tok_embeddings.weight"] = state["tok_embeddings.weight"][:500]
    torch.save(state, folder / "consolidated.00.pth")
    with pytest.raises(WeightsError, match=r"512 pieces.*model of 500"):
        convert_meta(folder, tmp_path / "out")


def test_the_verb_converts_and_refuses_another_release(weights_dir, tmp_path, capsys):
    arguments = ["backbones", "convert", str(weights_dir / "7B"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--release", "llama_7b"]) == 2
    assert "differs from the release" in capsys.readouterr().err
    assert main([*arguments, "--release", "lama"]) == 2
    assert main(arguments) == 0
    assert "parameters in" in capsys.readouterr().out


def test_stories_model_tells_its_story_to_the_letter(real_dir, tmp_path):
    stories = real_dir / "stories260K"
    convert_meta(write_meta_folder(stories, tmp_path / "meta"), tmp_path / "out")
    backbones = BackboneSettings(llm=str(tmp_path / "out"))
    llm, tokenizer = load_llm(backbones), load_llm_tokenizer(backbones)
    assert (llm.config.num_attention_heads, llm.config.num_key_value_heads) == (8, 4)
    ids = [tokenizer.bos_id]
    cache, new, name = None, torch.tensor([ids]), cache_name(llm.model)
    with torch.inference_mode():
        for _ in range(256):
            output = llm(input_ids=new, use_cache=True, **{name: cache})
            cache, new = output[name], output.logits[:, -1:].argmax(dim=-1)
            ids.append(int(new))
    expected = (stories / "expected_greedy.txt").read_text(encoding="utf-8")
    assert tokenizer.decode(ids).strip() == expected.strip()


MEASURED = """
import sys
from pathlib import Path
import safetensors.torch, sentencepiece, torch, transformers
from ademvl.llm.convert import convert_meta
from transformers import LlamaForCausalLM

def memory_mib(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024

Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = memory_mib("VmRSS")
convert_meta(Path(sys.argv[1]), Path(sys.argv[2]))
print(memory_mib("VmHWM") - before)
"""


@pytest.mark.slow
def test_memory_stays_below_the_checkpoint_and_a_third(weights_dir, tmp_path):
    folder = tmp_path / "meta"
    folder.mkdir()
    dim, layers, ffn, vocab = 1024, 24, 2816, 8000
    shapes = {"tok_embeddings.weight": (vocab, dim), "output.weight": (vocab, dim)}
    shapes["norm.weight"] = (dim,)
    for layer in range(layers):
        for name in ("wq", "wk", "wv", "wo"):
            shapes[f"layers.{layer}.attention.{name}.weight"] = (dim, dim)
        for name, shape in (("w1", (ffn, dim)), ("w2", (dim, ffn)), ("w3", (ffn, dim))):
            shapes[f"layers.{layer}.feed_forward.{name}.weight"] = shape
        for name in ("attention_norm", "ffn_norm"):
            shapes[f"layers.{layer}.{name}.weight"] = (dim,)
    state = {name: torch.ones(shape, dtype=torch.float16) for name, shape in shapes.items()}
    torch.save(state, folder / "consolidated.00.pth")
    params = {"dim": dim, "n_layers": layers, "n_heads": 8, "norm_eps": 1e-6, "vocab_size": -1}
    (folder / "params.json").write_text(json.dumps(params))
    shutil.copy(weights_dir / "tokenizer.model", folder)
    process = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder), str(tmp_path / "out")],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    checkpoint_mib = (folder / "consolidated.00.pth").stat().st_size / 2**20
    ratio = float(process.stdout.split()[-1]) / checkpoint_mib
    print(f"peak {ratio:.2f} of {checkpoint_mib:.0f} MiB")
    assert ratio <= MAX_MEMORY_RATIO
