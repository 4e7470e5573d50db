"""Protects greedy generation: the cache, padding and other rows change nothing."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ademvl.config.method import AdemSettings
from ademvl.data.collate import TokenizedExample, collate
from ademvl.evaluation.generation import cut_at, generate_greedily, greedy_steps, pad_left
from ademvl.model import VisionLanguageModel

VOCABULARY, WIDTH, TOWER_WIDTH, NUM_GRID_TOKENS = 50, 16, 8, 16
MAX_NEW_TOKENS = 7
NEVER = VOCABULARY  # an end token that no row can give
LENGTHS = (5, 9, 3, 9, 6)
HAS_IMAGE = (True, False, True, True, False)
FP32_TOLERANCE = 2e-5  # other order of sums, after three layers


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        llm = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=VOCABULARY,
                hidden_size=WIDTH,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                initializer_range=0.3,
            )
        )
        settings = AdemSettings(scales=(16, 4), projection_width=4, alpha=1.0, beta=1.0)
        built = VisionLanguageModel(llm, settings, tower_width=TOWER_WIDTH)
        built.load_adapter_state_dict(
            {name: torch.randn(p.shape) * 0.3 for name, p in built.named_trainable_parameters()},
            source="random",
        )
    return built.eval()


def _rows():
    generator = np.random.default_rng(0)
    rows = []
    for number, (length, has_image) in enumerate(zip(LENGTHS, HAS_IMAGE, strict=True)):
        ids = generator.integers(3, VOCABULARY, size=length).astype(np.int32)
        ids[0] = 1
        rows.append(
            TokenizedExample(
                item_id=str(number),
                ids=ids,
                labels=np.full(length, -100, dtype=np.int32),
                slot_start=1 if has_image else -1,
                num_slots=1,
                image=f"{number}.png" if has_image else None,
                is_shortened=False,
            )
        )
    return rows


def _visual(rows):
    shape = (1 + NUM_GRID_TOKENS, TOWER_WIDTH)
    found = [
        torch.randn(shape, generator=torch.Generator().manual_seed(int(row.item_id)))
        for row in rows
        if row.image
    ]
    return torch.stack(found) if found else None


def _generate(model, rows, *, eos_id=NEVER, max_new_tokens=MAX_NEW_TOKENS):
    batch = collate(rows, trim_after_labels=False)
    return generate_greedily(
        model, batch, _visual(rows), max_new_tokens=max_new_tokens, eos_id=eos_id
    )


def _without_cache(model, row):
    """Run the whole row anew for each token."""
    ids = list(row.ids)
    for _ in range(MAX_NEW_TOKENS):
        longer = replace(row, ids=np.array(ids), labels=np.full(len(ids), -100))
        batch = collate([longer], trim_after_labels=False)
        with torch.inference_mode():
            ids.append(int(model.next_token_logits(batch, _visual([row])).argmax()))
    return ids[len(row.ids) :]


def test_cached_generation_equals_token_by_token(model):
    rows = _rows()
    expected = [_without_cache(model, row) for row in rows]
    assert len({tuple(ids) for ids in expected}) > 1
    assert _generate(model, rows) == expected


def test_rows_do_not_depend_on_their_batch(model):
    rows = _rows()
    together = _generate(model, rows)
    assert [_generate(model, [row])[0] for row in rows] == together
    assert _generate(model, rows[::-1]) == together[::-1]


def test_logits_do_not_depend_on_padding(model):
    rows = _rows()
    batch = collate(rows, trim_after_labels=False)
    single = collate(rows[:1], trim_after_labels=False)
    with torch.inference_mode():
        many = list(islice(greedy_steps(model, batch, _visual(rows)), 3))
        alone = list(islice(greedy_steps(model, single, _visual(rows[:1])), 3))
    for several, one in zip(many, alone, strict=True):
        torch.testing.assert_close(several[:1], one, atol=FP32_TOLERANCE, rtol=0)


def test_each_row_stops_at_its_own_end(model):
    rows = _rows()
    free = _generate(model, rows)
    eos_id = free[0][2]
    stopped = _generate(model, rows, eos_id=eos_id)
    assert stopped == [cut_at(ids, eos_id) for ids in free]
    assert len(stopped[0]) <= 2
    assert any(len(ids) == MAX_NEW_TOKENS for ids in stopped)


def test_image_changes_what_is_generated(model):
    rows = _rows()[:1]
    batch = collate(rows, trim_after_labels=False)
    other = -_visual(rows)
    with torch.inference_mode():
        first = next(iter(greedy_steps(model, batch, _visual(rows))))
        second = next(iter(greedy_steps(model, batch, other)))
    assert (first - second).abs().max() > FP32_TOLERANCE


def test_model_is_free_again_after_generation(model):
    _generate(model, _rows(), max_new_tokens=2)
    assert model._context._current is None


def test_padding_moves_to_the_left():
    rows = _rows()[1:3]
    padded = pad_left(collate(rows, trim_after_labels=False))
    assert padded.input_ids[0].tolist() == rows[0].ids.tolist()
    assert padded.input_ids[1].tolist() == [0] * 6 + rows[1].ids.tolist()
    assert padded.mask.sum(dim=1).tolist() == [9, 3]
    assert padded.position_ids[1].tolist() == [0] * 7 + [1, 2]
    assert padded.slot_start.tolist() == [-1, 7]
