"""Protects generation: cache, padding and other rows change nothing; searches and draws right."""

import warnings
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig

from ademvl.config.evaluation import DecodingSettings
from ademvl.data.collate import collate, pad_left
from ademvl.data.rows import TokenizedExample
from ademvl.errors import SettingsError
from ademvl.evaluation.generation import Sampler, cut_at, decoding_steps, generate
from ademvl.methods.adem.settings import AdemSettings
from ademvl.model.vision_language import VisionLanguageModel
from ademvl.vision.tower import TowerShape
from tests.random_decoders import random_decoder

VOCABULARY, WIDTH, TOWER_WIDTH, NUM_GRID_TOKENS = 50, 16, 8, 16
TOWER_SHAPE = TowerShape(
    width=TOWER_WIDTH, num_blocks=2, image_size=8, num_grid_tokens=NUM_GRID_TOKENS, output_width=8
)
MAX_NEW_TOKENS = 7
NEVER = VOCABULARY  # an end token that no row can give
LENGTHS = (5, 9, 3, 9, 6)
HAS_IMAGE = (True, False, True, True, False)
GREEDY = DecodingSettings()
SAMPLE = DecodingSettings(strategy="sample")
BEAM = DecodingSettings(strategy="beam", num_beams=3)
FP32_TOLERANCE = 2e-5  # other order of sums, after three layers


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        llm = random_decoder(vocabulary=VOCABULARY, width=WIDTH, layers=3, initializer_range=0.3)
        settings = AdemSettings(scales=(16, 4), projection_width=4, alpha=1.0, beta=1.0)
        built = VisionLanguageModel(llm, settings, tower_shape=TOWER_SHAPE)
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


def _generate(model, rows, decoding=GREEDY, *, eos_id=NEVER, max_new_tokens=MAX_NEW_TOKENS, seed=0):
    batch = collate(rows, trim_after_labels=False)
    return generate(
        model,
        batch,
        _visual(rows),
        max_new_tokens=max_new_tokens,
        eos_id=eos_id,
        decoding=decoding,
        seed=seed,
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


class _Decoder(nn.Module):
    """Sums up what it has seen, by way of a cache under one of its two names."""

    def __init__(self, embeddings, name):
        super().__init__()
        self.layers, self.embed_tokens, self.name = nn.ModuleList(), embeddings, name
        self.forward = {"cache": self._new, "past_key_values": self._old}[name]

    def _new(self, *, inputs_embeds, attention_mask, position_ids, cache, use_cache):
        seen = torch.cat([inputs_embeds] if cache is None else [cache, inputs_embeds], dim=1)
        assert seen.shape[1] == attention_mask.shape[1]
        states = (seen * attention_mask[..., None]).cumsum(dim=1)[:, -inputs_embeds.shape[1] :]
        return SimpleNamespace(last_hidden_state=states, **{self.name: seen})

    def _old(self, *, inputs_embeds, attention_mask, position_ids, past_key_values, use_cache):
        return self._new(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=past_key_values,
            use_cache=use_cache,
        )


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_cache_goes_by_the_name_that_the_decoder_takes(name):
    """Releases of transformers 5 call it by two names, in arguments and in outputs."""
    vocabulary, ids = 5, [1, 2, 4]
    embeddings, output = nn.Embedding(vocabulary, 4), nn.Linear(4, vocabulary)
    llm = nn.Module()
    llm.config = LlamaConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=1)
    llm.model = _Decoder(embeddings, name)
    llm.get_input_embeddings, llm.get_output_embeddings = lambda: embeddings, lambda: output
    model = VisionLanguageModel(llm, AdemSettings(fusion="none"), tower_shape=TOWER_SHAPE).eval()
    row = replace(_rows()[1], ids=np.array(ids, dtype=np.int32), labels=np.full(3, -100))

    found = _generate(model, [row], eos_id=vocabulary)[0]
    for _ in range(MAX_NEW_TOKENS):
        ids.append(int(output(embeddings(torch.tensor(ids)).sum(dim=0)).argmax()))
    assert found == ids[3:]


def test_installed_release_calls_nothing_deprecated(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        _generate(model, _rows())


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE, BEAM], ids=lambda d: d.strategy)
def test_rows_do_not_depend_on_their_batch(model, decoding):
    rows = _rows()
    together = _generate(model, rows, decoding)
    assert [_generate(model, [row], decoding)[0] for row in rows] == together
    assert _generate(model, rows[::-1], decoding) == together[::-1]


def test_logits_do_not_depend_on_padding(model):
    rows = _rows()
    batch = collate(rows, trim_after_labels=False)
    single = collate(rows[:1], trim_after_labels=False)
    with torch.inference_mode():
        many = list(islice(decoding_steps(model, batch, _visual(rows)), 3))
        alone = list(islice(decoding_steps(model, single, _visual(rows[:1])), 3))
    for (several, _), (one, _) in zip(many, alone, strict=True):
        torch.testing.assert_close(several[:1], one, atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE], ids=lambda d: d.strategy)
def test_each_row_stops_at_its_own_end(model, decoding):
    rows = _rows()
    free = _generate(model, rows, decoding)
    eos_id = free[0][2]
    stopped = _generate(model, rows, decoding, eos_id=eos_id)
    assert stopped == [cut_at(ids, eos_id) for ids in free]
    assert len(stopped[0]) <= 2
    assert any(len(ids) == MAX_NEW_TOKENS for ids in stopped)


def test_image_changes_what_is_generated(model):
    rows = _rows()[:1]
    batch = collate(rows, trim_after_labels=False)
    other = -_visual(rows)
    with torch.inference_mode():
        first, _ = next(decoding_steps(model, batch, _visual(rows)))
        second, _ = next(decoding_steps(model, batch, other))
    assert (first - second).abs().max() > FP32_TOLERANCE


def _log_likelihood(model, row, new_ids):
    """Score new ids behind a row, without cache, beams or padding."""
    ids = np.concatenate([row.ids, new_ids])
    longer = replace(row, ids=ids, labels=np.where(np.arange(len(ids)) < len(row.ids), -100, ids))
    with torch.inference_mode():
        logits, targets, _ = model.labelled_logits(
            collate([longer], trim_after_labels=False), _visual([row])
        )
    return float(logits.log_softmax(dim=-1).gather(1, targets[:, None]).sum())


def test_one_beam_is_greedy(model):
    one_beam = DecodingSettings(strategy="beam", num_beams=1)
    assert _generate(model, _rows(), one_beam) == _generate(model, _rows())


def test_beams_as_many_as_tokens_find_the_likeliest_of_all_pairs(model):
    every = DecodingSettings(strategy="beam", num_beams=VOCABULARY)
    for row in _rows()[:2]:
        (found,) = _generate(model, [row], every, max_new_tokens=2)
        pairs = [[first, second] for first in range(VOCABULARY) for second in range(VOCABULARY)]
        with torch.inference_mode():
            first = model.next_token_logits(collate([row], trim_after_labels=False), _visual([row]))
        firsts = first[0].log_softmax(dim=-1).argsort(descending=True)[:8].tolist()
        likeliest = max(
            (pair for pair in pairs if pair[0] in firsts),
            key=lambda pair: _log_likelihood(model, row, pair),
        )
        assert found == likeliest


def test_beams_find_what_is_at_least_as_likely_as_greedy(model):
    rows = _rows()
    greedy, beams = _generate(model, rows), _generate(model, rows, BEAM)
    assert greedy != beams
    for row, one, other in zip(rows, greedy, beams, strict=True):
        gain = _log_likelihood(model, row, other) - _log_likelihood(model, row, one)
        assert gain > -FP32_TOLERANCE * MAX_NEW_TOKENS


def test_generation_settings_of_the_models_folder_do_not_leak_in(model, monkeypatch):
    expected = _generate(model, _rows(), BEAM)
    own = model.llm.generation_config
    for key, value in (("repetition_penalty", 50.0), ("num_return_sequences", 2)):
        monkeypatch.setattr(own, key, value)
    assert _generate(model, _rows(), BEAM) == expected
    assert model.llm.generation_config is own


def test_beam_stops_at_the_end_token(model):
    free = _generate(model, _rows(), BEAM)
    eos_id = free[0][1]
    for ids in _generate(model, _rows(), BEAM, eos_id=eos_id):
        assert eos_id not in ids
        assert len(ids) <= MAX_NEW_TOKENS


def test_same_seed_draws_the_same_and_another_does_not(model):
    first, again, other = (_generate(model, _rows(), SAMPLE, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_rows_with_equal_prompts_draw_apart(model):
    rows = [replace(_rows()[1], item_id=str(number)) for number in range(4)]
    drawn = _generate(model, rows, SAMPLE)
    assert len({tuple(ids) for ids in drawn}) > 1


def test_cold_or_narrow_sampling_is_greedy(model):
    for settings in ({"temperature": 1e-4}, {"top_p": 1e-6}):
        narrow = DecodingSettings(strategy="sample", **settings)
        assert _generate(model, _rows(), narrow) == _generate(model, _rows())


def _shares_drawn(logits, **settings):
    rows = 4000
    sampler = Sampler(DecodingSettings(strategy="sample", **settings), range(rows))
    drawn = sampler(torch.tensor(logits).expand(rows, -1))
    return (drawn.bincount(minlength=len(logits)) / rows).tolist()


def test_draws_follow_temperature_and_top_p():
    logits = np.log([0.1, 0.5, 0.1, 0.3]).tolist()
    tolerance = 0.03  # four standard errors of a half at 4000 draws
    assert _shares_drawn(logits) == pytest.approx([0.1, 0.5, 0.1, 0.3], abs=tolerance)
    # Temperature 0.5 squares: 1, 25, 1, 9 of 36.
    expected = [1 / 36, 25 / 36, 1 / 36, 9 / 36]
    assert _shares_drawn(logits, temperature=0.5) == pytest.approx(expected, abs=tolerance)
    # The two most likely tokens reach 0.8.
    shares = _shares_drawn(logits, top_p=0.75)
    assert shares == pytest.approx([0, 5 / 8, 0, 3 / 8], abs=tolerance)
    assert (shares[0], shares[2]) == (0, 0)


@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {"top_p": 0}, {"top_p": 1.5}, {"num_beams": 0}]
)
def test_impossible_decoding_is_refused(settings):
    with pytest.raises(SettingsError, match=f"{next(iter(settings))}: .*, expected"):
        DecodingSettings(**settings)


@pytest.mark.parametrize("decoding", [GREEDY, SAMPLE, BEAM], ids=lambda d: d.strategy)
def test_model_is_free_again_after_generation(model, decoding):
    _generate(model, _rows(), decoding, max_new_tokens=2)
    with pytest.raises(RuntimeError, match="outside of an opened block"):
        model.llm(torch.tensor([[1]]))


def test_padding_moves_to_the_left():
    rows = _rows()[1:3]
    padded = pad_left(collate(rows, trim_after_labels=False))
    assert padded.input_ids[0].tolist() == rows[0].ids.tolist()
    assert padded.input_ids[1].tolist() == [0] * 6 + rows[1].ids.tolist()
    assert padded.mask.sum(dim=1).tolist() == [9, 3]
    assert padded.position_ids[1].tolist() == [0] * 7 + [1, 2]
    assert padded.slot_start.tolist() == [-1, 7]
