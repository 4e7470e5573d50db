"""Protects kept references: tokenized once, never read damaged, and nothing depends on them."""

import pytest

from ademvl.tasks.coco_caption.metrics.tokenized import KEPT_FOLDER, tokenize_captions

REFERENCES = {2: ["Two A", "Two B"], 1: ["One"]}
CAPTIONS = {1: "A one", 2: "A two"}
TOKENIZED = ({1: ["one"], 2: ["two a", "two b"]}, [{1: ["a one"], 2: ["a two"]}])


@pytest.fixture
def tokenizer():
    """Return a tokenizer that notes what it was asked."""

    class Tokenizer:
        asked = None

        def __call__(self, sentences):
            self.asked = list(sentences)
            return [sentence.lower() for sentence in sentences]

    return Tokenizer()


def _kept(folder):
    (path,) = (folder / KEPT_FOLDER).iterdir()
    return path


def test_references_are_tokenized_once(tokenizer, tmp_path):
    for asked in (["A one", "A two", "One", "Two A", "Two B"], ["A one", "A two"]):
        found = tokenize_captions(REFERENCES, [CAPTIONS], tokenize=tokenizer, beside=tmp_path)
        assert found == TOKENIZED
        assert tokenizer.asked == asked


def test_several_sets_of_captions_are_tokenized_at_once(tokenizer):
    others = {1: "C", 2: "D"}
    references, captions = tokenize_captions(REFERENCES, [CAPTIONS, others], tokenize=tokenizer)
    assert (references, captions[:1]) == TOKENIZED
    assert captions[1] == {1: ["c"], 2: ["d"]}


def test_other_references_are_tokenized(tokenizer, tmp_path):
    tokenize_captions(REFERENCES, [CAPTIONS], tokenize=tokenizer, beside=tmp_path)
    changed = {**REFERENCES, 1: ["Another"]}
    found, _ = tokenize_captions(changed, [CAPTIONS], tokenize=tokenizer, beside=tmp_path)
    assert found[1] == ["another"]
    found = tokenize_captions(REFERENCES, [CAPTIONS], tokenize=tokenizer, beside=tmp_path)
    assert found == TOKENIZED


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content.replace(b"one", b"on\xff"),
        lambda content: content.replace(b"one", b"own"),
        lambda content: content + b"\nmore",
    ],
)
def test_damaged_file_is_written_anew(tokenizer, tmp_path, damage):
    tokenize_captions(REFERENCES, [CAPTIONS], tokenize=tokenizer, beside=tmp_path)
    whole = _kept(tmp_path).read_bytes()
    _kept(tmp_path).write_bytes(damage(whole))
    found = tokenize_captions(REFERENCES, [CAPTIONS], tokenize=tokenizer, beside=tmp_path)
    assert found == TOKENIZED
    assert _kept(tmp_path).read_bytes() == whole


def test_folder_that_cannot_be_written_keeps_nothing(tokenizer, tmp_path):
    (tmp_path / KEPT_FOLDER).write_text("in the way", encoding="utf-8")
    found = tokenize_captions(REFERENCES, [CAPTIONS], tokenize=tokenizer, beside=tmp_path)
    assert found == TOKENIZED
    assert [path.name for path in tmp_path.iterdir()] == [KEPT_FOLDER]
