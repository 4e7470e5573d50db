"""Protects which tokenizer a model gets, and what stands for missing control tokens."""

import json

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ademvl.config.run import BackboneSettings
from ademvl.data.tokenizer import SentencePieceTokenizer, encode_example
from ademvl.errors import DataError, WeightsError
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


@pytest.mark.parametrize(
    ("in_config", "begin"), [(1, 1), (None, 2), (9_999, 2)], ids=["there", "none", "no token"]
)
def test_without_a_begin_token_of_the_tokenizer_that_of_the_model_counts(
    byte_level, tmp_path, in_config, begin
):
    """Qwen's tokenizers have none, and end instructions with another token than texts."""
    folder = tiny.make_llm(tmp_path)
    (folder / "tokenizer.model").unlink()
    PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<|end|>").save_pretrained(
        folder
    )
    config = folder / "config.json"
    content = json.loads(config.read_text()) | {"vocab_size": 280, "bos_token_id": in_config}
    config.write_text(json.dumps(content))
    tokenizer = load_llm_tokenizer(BackboneSettings(llm=str(folder)))
    assert (tokenizer.bos_id, tokenizer.eos_id) == (begin, 2)


@pytest.mark.parametrize("adds", [True, False], ids=["adds it", "adds none"])
def test_rows_begin_with_the_begin_token_once_whatever_the_tokenizer_adds(byte_level, adds):
    """Llama 3 and Gemma add it to every text, SmolLM2 and Phi 2 to none."""
    from tokenizers.processors import TemplateProcessing

    own = Tokenizer.from_str(byte_level.to_str())
    if adds:
        own.post_processor = TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", 1)]
        )
    tokenizer = wrapped(own, bos_token="<|begin|>", eos_token="<|end|>")
    text = encode_example(tokenizer, "Response:", "The answer is A.", max_tokens=99)
    assert text.ids[0] == 1
    assert list(text.ids).count(1) == 1


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
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 280}))
    found = load_llm_tokenizer(BackboneSettings(llm=str(folder)))
    assert found.vocab_size == byte_level.get_vocab_size()


def test_a_model_without_any_tokenizer_is_named(tmp_path):
    folder = tiny.make_llm(tmp_path)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(WeightsError, match=r"has no tokenizer\.model of Sentence.*finds no other"):
        load_llm_tokenizer(BackboneSettings(llm=str(folder)))


def test_a_tokenizer_of_control_tokens_alone_is_refused(tmp_path):
    folder = tiny.make_llm(tmp_path)
    (folder / "tokenizer.model").unlink()
    nothing = Tokenizer(models.BPE(unk_token="<unk>"))
    tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=nothing, **tokens).save_pretrained(folder)
    with pytest.raises(WeightsError, match=r"has no tokenizer\.model of Sentence.*finds no other"):
        load_llm_tokenizer(BackboneSettings(llm=str(folder)))


@pytest.mark.parametrize("rows", [-12, -1, 0, 64])
def test_a_tokenizer_with_more_pieces_than_rows_is_refused(tmp_path, rows):
    folder = tiny.make_llm(tmp_path)
    config = folder / "config.json"
    pieces = json.loads(config.read_text())["vocab_size"]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": pieces + rows}))
    backbones = BackboneSettings(llm=str(folder))
    if rows >= 0:
        assert load_llm_tokenizer(backbones).vocab_size == pieces
        return
    message = f"has {pieces} pieces, but its model has {pieces + rows} rows"
    with pytest.raises(WeightsError, match=message):
        load_llm_tokenizer(backbones)


def test_a_tokenizer_of_transformers_needs_rows_for_what_texts_give_alone(byte_level, tmp_path):
    folder = tiny.make_llm(tmp_path)
    (folder / "tokenizer.model").unlink()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<|endoftext|>")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # as old conversions of LLaMA have it
    tokenizer.save_pretrained(folder)
    config = folder / "config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"vocab_size": byte_level.get_vocab_size()}))
    backbones = BackboneSettings(llm=str(folder))
    assert load_llm_tokenizer(backbones).vocab_size == len(tokenizer) - 1
    config.write_text(json.dumps(content | {"vocab_size": byte_level.get_vocab_size() - 1}))
    with pytest.raises(WeightsError, match="they do not belong together"):
        load_llm_tokenizer(backbones)


@pytest.mark.parametrize("kind", ["SentencePiece", "transformers"])
@pytest.mark.parametrize("text", ["Is it red? \ud83d", "\udc80", "a\udfffb"])
def test_half_of_a_character_is_refused_in_words(byte_level, tmp_path, kind, text):
    tiny.make_tokenizer(tmp_path / "tokenizer.model")
    tokenizer = (
        SentencePieceTokenizer.from_file(tmp_path / "tokenizer.model")
        if kind == "SentencePiece"
        else wrapped(byte_level, eos_token="<|endoftext|>")
    )
    with pytest.raises(DataError, match="holds half of a character") as error:
        tokenizer.encode(text)
    str(error.value).encode("utf-8")
    assert tokenizer.encode("whole: \U0001f600")
