"""Protects which tokenizer a model gets, and what stands for missing control tokens."""

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ademvl.config.run import BackboneSettings
from ademvl.data.tokenizer import SentencePieceTokenizer, encode_example
from ademvl.errors import WeightsError
from ademvl.llm.tokenizer import TransformersTokenizer, load_llm_tokenizer
from tests import tiny
from tests.llm.gguf_files import train_byte_level_tokenizer

TEXTS = ["Response:The answer is A.", "! ? wonderful!"]


@pytest.fixture(scope="module")
def byte_level():
    return train_byte_level_tokenizer(TEXTS, vocab_size=280)


def wrapped(byte_level, **control_tokens):
    return TransformersTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=byte_level, **control_tokens), name="there"
    )


def test_a_model_without_begin_token_begins_with_its_end_token(byte_level):
    tokenizer = wrapped(byte_level, eos_token="<|endoftext|>")
    assert tokenizer.bos_id == tokenizer.eos_id == 0
    text = encode_example(tokenizer, "Response:", "The answer is A.", max_tokens=99)
    assert (text.ids[0], text.ids[-1], text.labels[-1]) == (0, 0, 0)


def test_a_model_without_end_token_is_refused(byte_level):
    with pytest.raises(WeightsError, match="there: its tokenizer has no end token"):
        wrapped(byte_level, bos_token="<|begin|>")


def test_no_token_of_an_answer_goes_unscored(byte_level):
    tokenizer = wrapped(byte_level, eos_token="<|end|>")
    assert tokenizer.unscored_ids == frozenset()
    text = encode_example(tokenizer, "!", "wonderful!", max_tokens=99)
    assert text.labels[2:] == text.ids[2:]


def test_tokenizer_model_decides_where_both_are_there(byte_level, tmp_path):
    folder = tiny.make_llm(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<|end|>").save_pretrained(
        folder
    )
    assert isinstance(load_llm_tokenizer(BackboneSettings(llm=str(folder))), SentencePieceTokenizer)


def test_a_tokenizer_model_of_another_kind_is_passed_over(byte_level, tmp_path):
    folder = tiny.make_llm(tmp_path)
    (folder / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")  # as Llama 3 has it
    PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<|end|>").save_pretrained(
        folder
    )
    found = load_llm_tokenizer(BackboneSettings(llm=str(folder)))
    assert found.vocab_size == byte_level.get_vocab_size()


def test_a_model_without_any_tokenizer_is_named(tmp_path):
    folder = tiny.make_llm(tmp_path)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(WeightsError, match=r"has no tokenizer\.model, and transformers finds no"):
        load_llm_tokenizer(BackboneSettings(llm=str(folder)))


def test_a_tokenizer_of_control_tokens_alone_is_refused(tmp_path):
    folder = tiny.make_llm(tmp_path)
    (folder / "tokenizer.model").unlink()
    nothing = Tokenizer(models.BPE(unk_token="<unk>"))
    tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=nothing, **tokens).save_pretrained(folder)
    with pytest.raises(WeightsError, match=r"has no tokenizer\.model, and transformers finds no"):
        load_llm_tokenizer(BackboneSettings(llm=str(folder)))
