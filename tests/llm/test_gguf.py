"""Protects GGUF files: the same model and tokenizer as the folder they were written from."""

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import PreTrainedTokenizerFast

from ademvl.config.run import BackboneSettings
from ademvl.errors import SettingsError, ToolError, WeightsError
from ademvl.llm.loading import load_llm
from ademvl.llm.source import llm_config
from ademvl.llm.tokenizer import load_llm_tokenizer
from tests.llm.gguf_files import train_byte_level_tokenizer, write_gguf
from tests.random_decoders import random_decoder

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.23"),
    reason="this release of transformers misreads GGUF files",
)
TEXTS = ["Image: N/A", "Response:The answer is A.", "two  spaces\nand a newline", "café 中文 😀"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of transformers and, in a folder of its own, model.gguf of the same weights."""
    folder = tmp_path_factory.mktemp("byte_level")
    tokenizer = train_byte_level_tokenizer(TEXTS, vocab_size=300)
    llm = random_decoder(
        vocabulary=tokenizer.get_vocab_size(),
        width=32,
        heads=4,
        kv_heads=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    llm.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>"
    ).save_pretrained(folder)
    (folder / "gguf").mkdir()
    write_gguf(folder / "gguf" / "model.gguf", llm, tokenizer)
    return folder


@pytest.fixture(scope="module")
def from_folder(folder):
    return BackboneSettings(llm=str(folder))


@pytest.fixture(scope="module")
def from_gguf(folder):
    return BackboneSettings(llm=str(folder / "gguf/model.gguf"))


def test_weights_are_those_of_the_folder(from_folder, from_gguf):
    expected, found = load_llm(from_folder).state_dict(), load_llm(from_gguf).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_have_the_precision_asked_for(folder):
    llm = load_llm(BackboneSettings(llm=str(folder / "gguf/model.gguf"), precision="bf16"))
    assert {parameter.dtype for parameter in llm.parameters()} == {torch.bfloat16}
    assert type(llm.model.layers[0].mlp.up_proj) is torch.nn.Linear


def test_loading_draws_no_progress_bar(from_gguf, capfd):
    load_llm(from_gguf)
    assert "%|" not in capfd.readouterr().err


def test_sizes_are_known_without_weights(from_gguf):
    assert llm_config(from_gguf).hidden_size == 32


@pytest.mark.parametrize("kind", ["from_folder", "from_gguf"])
def test_byte_level_tokenizers_serve_without_tokenizer_model(kind, request):
    tokenizer = load_llm_tokenizer(request.getfixturevalue(kind))
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    for text in (*TEXTS, "never seen: żółw", ""):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not {0, 1, 2} & {*ids}
        assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id]) == text


def test_text_that_spells_a_control_token_stays_text(from_folder, from_gguf):
    for backbones in (from_folder, from_gguf):
        tokenizer = load_llm_tokenizer(backbones)
        ids = tokenizer.encode("a <|end|> b")
        assert tokenizer.eos_id not in ids
        assert tokenizer.decode(ids) == "a <|end|> b"


def test_both_tokenizers_give_the_same_ids(from_folder, from_gguf):
    one, two = load_llm_tokenizer(from_folder), load_llm_tokenizer(from_gguf)
    assert [one.encode(text) for text in TEXTS] == [two.encode(text) for text in TEXTS]
    assert one.vocab_size == two.vocab_size


def test_damaged_files_are_named(folder, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF nonsense")
    with pytest.raises(WeightsError, match=r"damaged\.gguf"):
        load_llm(BackboneSettings(llm=str(damaged)))
    whole = (folder / "gguf/model.gguf").read_bytes()
    damaged.write_bytes(whole[:-5000])
    with pytest.raises(SettingsError, match=r"damaged\.gguf"):
        load_llm(BackboneSettings(llm=str(damaged)))
    with pytest.raises(WeightsError, match=r"nowhere\.gguf"):
        load_llm(BackboneSettings(llm=str(tmp_path / "nowhere.gguf")))


def test_release_of_transformers_that_misreads_them_is_refused(from_gguf, monkeypatch):
    monkeypatch.setattr("transformers.__version__", "5.17.0")
    with pytest.raises(ToolError, match=r"transformers 5\.17\.0 misreads GGUF files"):
        load_llm(from_gguf)
