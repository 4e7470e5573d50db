"""Protects loading of tokenizers and the labels of an example."""

import pytest

from ademvl.data.tokenizer import (
    SentencePieceTokenizer,
    encode_example,
    encode_prompt,
    load_tokenizer,
)
from ademvl.errors import WeightsError


@pytest.fixture(scope="module")
def tokenizer(golden_dir):
    return load_tokenizer(golden_dir / "models" / "weights")


def test_text_survives_encoding_and_decoding(tokenizer):
    for text in ("Image: N/A", "two  spaces\nand a newline", "café 中文 😀", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_control_tokens_decode_to_nothing(tokenizer):
    ids = [tokenizer.bos_id, *tokenizer.encode("a dog"), tokenizer.eos_id]
    assert tokenizer.decode(ids) == "a dog"


def test_only_answer_and_end_are_scored(tokenizer):
    text = encode_example(tokenizer, "Response:", "The answer is A.", max_tokens=99)
    num_prompt = len(encode_prompt(tokenizer, "Response:").ids)
    assert text.labels[:num_prompt] == [-100] * num_prompt
    assert text.labels[num_prompt:] == text.ids[num_prompt:]
    assert text.ids[0] == tokenizer.bos_id
    assert text.ids[-1] == tokenizer.eos_id


def test_unscored_ids_have_no_label():
    class Fake:
        bos_id, eos_id, vocab_size, unscored_ids = 1, 2, 10, frozenset({0})

        def encode(self, text):
            return [0 if word == "?" else 5 for word in text.split()]

        def decode(self, ids):
            raise NotImplementedError

    text = encode_example(Fake(), "p p ", "a ? a", max_tokens=99)
    assert text.ids == [1, 5, 5, 5, 0, 5, 2]
    assert text.labels == [-100, -100, -100, 5, -100, 5, 2]


def test_missing_and_damaged_tokenizers_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"tokenizer\.model: no such file"):
        load_tokenizer(tmp_path)
    damaged = tmp_path / "tokenizer.model"
    damaged.write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="not a SentencePiece model"):
        SentencePieceTokenizer.from_file(damaged)


def test_tokenizer_of_a_real_model_loads(real_dir):
    tokenizer = SentencePieceTokenizer.from_file(real_dir / "stories260K" / "tok512.model")
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (512, 1, 2)


def test_exact_label_mask_scores_the_first_piece_that_the_prompt_alone_does_not_have(tokenizer):
    """The prompt alone ends in a piece for its space, which the whole text does not have."""
    texts = "a picture of ", "a picture of a dog"
    usual = encode_example(tokenizer, *texts, max_tokens=99)
    exact = encode_example(tokenizer, *texts, max_tokens=99, label_mask="exact")
    assert usual.ids == exact.ids
    num_prompt = 1 + len(tokenizer.encode("a picture of"))
    assert usual.labels == [-100] * (num_prompt + 1) + usual.ids[num_prompt + 1 :]
    assert exact.labels == [-100] * num_prompt + exact.ids[num_prompt:]


def test_label_masks_agree_where_the_prompt_ends_in_no_space(tokenizer):
    texts = "Response:", "The answer is A."
    usual, exact = (
        encode_example(tokenizer, *texts, max_tokens=99, label_mask=mask)
        for mask in ("reference", "exact")
    )
    assert usual == exact
