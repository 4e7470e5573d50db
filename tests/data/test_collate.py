"""Protects rows and batches: prefix, slots, cutting, labels, padding, order."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ademvl.data.collate import collate
from ademvl.data.examples import Example
from ademvl.data.rows import RowLayout, build_row, count_shortened, tokenize_examples
from ademvl.data.shortening import OMISSION
from ademvl.data.tokenizer import IGNORED_LABEL, TokenizedText
from ademvl.errors import DataError, SettingsError

IMAGE = Path("image.png")


class WordTokenizer:
    """One id for each distinct word, from 3 on."""

    bos_id, eos_id, unscored_ids = 1, 2, frozenset({0})

    def __init__(self):
        self.words = []

    @property
    def vocab_size(self):
        return 3 + len(self.words)

    def encode(self, text):
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [3 + self.words.index(word) for word in text.split()]

    def decode(self, ids):
        return " ".join(self.words[i - 3] for i in ids if i >= 3)


@pytest.fixture
def tokenizer():
    return WordTokenizer()


def rows_of(tokenizer, *examples, max_seq_len=20, num_slots=1, with_prefix=True, **settings):
    return tokenize_examples(
        tokenizer,
        examples,
        RowLayout.of(tokenizer, num_slots=num_slots, with_prefix=with_prefix),
        max_seq_len=max_seq_len,
        **settings,
    )


def test_image_row_has_prefix_and_slots_behind_the_begin_token(tokenizer):
    (row,) = rows_of(tokenizer, Example("i", "p q ", "a", IMAGE), num_slots=3)
    image, p, q, a = (tokenizer.encode(word)[0] for word in ("Image:", "p", "q", "a"))
    assert row.ids.tolist() == [1, image, 0, 0, 0, p, q, a, 2]
    assert row.labels.tolist() == [-100] * 7 + [a, 2]
    assert (row.slot_start, row.num_slots) == (2, 3)


def test_text_row_says_that_there_is_no_image(tokenizer):
    (row,) = rows_of(tokenizer, Example("i", "p ", "a", None))
    image, na, p, a = (tokenizer.encode(word)[0] for word in ("Image:", "N/A", "p", "a"))
    assert row.ids.tolist() == [1, image, na, p, a, 2]
    assert row.slot_start == -1


def test_without_slots_and_prefix_rows_hold_the_text_alone(tokenizer):
    rows = rows_of(
        tokenizer,
        Example("i", "p ", "a", IMAGE),
        Example("j", "p ", "a", None),
        num_slots=0,
        with_prefix=False,
    )
    assert rows[0].ids.tolist() == rows[1].ids.tolist()
    assert (rows[0].slot_start, len(rows[0].ids)) == (-1, 4)


def test_evaluation_row_ends_with_the_prompt_and_scores_nothing(tokenizer):
    (row,) = rows_of(tokenizer, Example("i", "p q", None, IMAGE))
    assert row.ids[-1] == tokenizer.encode("q")[0]
    assert not row.has_label


def test_long_training_row_loses_its_end(tokenizer):
    example = Example("i", "p q ", "a b c", IMAGE)
    (whole,) = rows_of(tokenizer, example)
    (cut,) = rows_of(tokenizer, example, max_seq_len=7)
    assert cut.ids.tolist() == whole.ids.tolist()[:7]
    assert cut.labels.tolist() == whole.labels.tolist()[:7]
    assert (whole.is_shortened, cut.is_shortened) == (False, True)


def test_row_of_exactly_the_limit_is_not_shortened(tokenizer):
    (whole,) = rows_of(tokenizer, Example("i", "p q ", "a b c", None))
    (same,) = rows_of(tokenizer, Example("i", "p q ", "a b c", None), max_seq_len=len(whole.ids))
    assert not same.is_shortened


def test_empty_answer_is_trained_to_end_at_once(tokenizer):
    (row,) = rows_of(tokenizer, Example("i", "p q ", "", None))
    assert row.labels.tolist()[-1] == row.ids[-1] == tokenizer.eos_id
    assert (row.labels[:-1] == IGNORED_LABEL).all()


def test_training_rows_without_label_can_be_left_out(tokenizer, caplog):
    examples = [Example("long", "p " * 30, "a", None), Example("i", "p q ", "a", None)]
    (row,) = rows_of(tokenizer, *examples, unlearnable="leave_out")
    assert row.item_id == "i"
    assert "item long: its prompt fills all 20 places" in caplog.text
    assert "left out of training" in caplog.text


def test_training_rows_without_label_are_listed(tokenizer):
    long = "p " * 30
    with pytest.raises(DataError) as caught:
        rows_of(tokenizer, *(Example(f"q{k}", long, "a", None) for k in range(25)))
    message = str(caught.value)
    assert "prompts.max_seq_len 20" in message
    assert "item q0:" in message
    assert "(25 found)" in message


def test_limit_without_room_for_text_is_refused(tokenizer):
    with pytest.raises(SettingsError, match=r"prompts\.max_seq_len: 66, but .* take 65 places"):
        rows_of(tokenizer, max_seq_len=66, num_slots=64)


@pytest.mark.parametrize("max_seq_len", range(8, 40))
def test_long_prompt_keeps_its_cue_and_as_much_context_as_fits(tokenizer, max_seq_len):
    context = " ".join(f"c{number}" for number in range(50))
    prompt = f"Context: {context} Question: what Response:The answer is"
    (row,) = rows_of(tokenizer, Example("i", prompt, None, None, context), max_seq_len=max_seq_len)
    text = tokenizer.decode(row.ids.tolist())
    assert len(row.ids) == max_seq_len
    assert row.is_shortened
    assert text.endswith("answer is")
    num_fixed = 1 + 2 + len(prompt.split()) - 50 + len(OMISSION.split())
    num_kept = max_seq_len - num_fixed
    if num_kept >= 0:
        assert "Question: what" in text
        assert sum(f"c{number}" in text.split() for number in range(50)) == num_kept
    if num_kept >= 2:
        assert "Context: c0" in text
        assert "c49 Question:" in text


def test_reference_cuts_the_cue_away_and_counts(tokenizer, caplog):
    long = Example("i", "p " * 30 + "The answer is", None, None)
    short = Example("j", "p The answer is", None, None)
    with caplog.at_level(logging.INFO, logger="ademvl.data.rows"):
        rows = rows_of(tokenizer, long, short, overflow="cut_end")
    assert "answer" not in tokenizer.decode(rows[0].ids.tolist())
    assert len(rows[0].ids) == 20
    assert count_shortened(rows) == 1
    assert "1 of 2" in caplog.text


def test_batch_is_padded_on_the_right(tokenizer):
    rows = rows_of(
        tokenizer, Example("i", "p ", "a", None), Example("j", "p q r ", "a", IMAGE), num_slots=2
    )
    batch = collate(rows, trim_after_labels=False)
    assert batch.item_ids == ("i", "j")
    assert batch.lengths.tolist() == [6, 9]
    assert batch.input_ids.shape == batch.labels.shape == (2, 9)
    assert batch.input_ids[0, 6:].tolist() == [0, 0, 0]
    assert batch.labels[0, 6:].tolist() == [-100] * 3
    assert batch.slot_start.tolist() == [-1, 2]
    assert batch.has_image.tolist() == [False, True]
    assert batch.images == (None, IMAGE)
    assert batch.input_ids.dtype == batch.labels.dtype == batch.lengths.dtype == torch.int64


def test_batch_ends_with_the_last_label_of_any_row():
    layout = RowLayout((), (), 0)
    long = TokenizedText([1, 5, 6, 7, 8], [-100, 5, -100, -100, -100])
    short = TokenizedText([1, 5, 6], [-100, -100, 6])
    rows = [
        build_row(text, layout, max_seq_len=9, item_id="i", image=None) for text in (long, short)
    ]
    batch = collate(rows, trim_after_labels=True)
    assert batch.input_ids.tolist() == [[1, 5, 6], [1, 5, 6]]
    assert batch.lengths.tolist() == [3, 3]
    with pytest.raises(ValueError, match="no labels"):
        collate(rows_of(WordTokenizer(), Example("e", "p", None, None)), trim_after_labels=True)


def test_rows_do_not_depend_on_their_neighbours(tokenizer):
    examples = [Example(str(k), "p " * k, "a b", IMAGE if k % 2 else None) for k in range(1, 9)]
    rows = rows_of(tokenizer, *examples)
    together = collate(rows, trim_after_labels=False)
    for place, row in enumerate(rows):
        alone = collate([row], trim_after_labels=False)
        length = int(alone.lengths[0])
        assert torch.equal(alone.input_ids[0], together.input_ids[place, :length])
        assert torch.equal(alone.labels[0], together.labels[place, :length])


@pytest.mark.parametrize(
    ("case", "source", "with_cls"),
    [("D_cls", "D_inputs", True), ("D_nocls", "D_inputs", False), ("D_trunc", "D_trunc", True)],
)
def test_golden_batches_are_assembled_the_same(golden_dir, case, source, with_cls):
    inputs = load_file(golden_dir / "D_inputs.safetensors")
    given = load_file(golden_dir / f"{source}.safetensors")
    expected = load_file(golden_dir / f"{case}.safetensors")["labels_assembled"].to(torch.int64)
    prefixes = [tuple(inputs[name].tolist()) for name in ("prefix_img", "prefix_nonimg")]
    layout = RowLayout(*prefixes, 1) if with_cls else RowLayout((), (), 0)
    rows = []
    for place, mask in enumerate(given["example_mask"]):
        ids = given["examples"][place][mask.bool()].tolist()
        labels = [label or -100 for label in given["labels"][place].tolist()[: len(ids)]]
        rows.append(
            build_row(
                TokenizedText(ids, labels),
                layout,
                max_seq_len=given["examples"].shape[1],
                item_id=str(place),
                image=IMAGE if inputs["indicators"][place] else None,
            )
        )
    batch = collate(rows, trim_after_labels=True)
    labels = torch.where(batch.labels == -100, 0, batch.labels)
    assert torch.equal(labels, expected)
    assert torch.equal(batch.input_ids[expected != 0], expected[expected != 0])
