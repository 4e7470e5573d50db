"""Protects the shipped language model (files, tokenizer, accuracy) and the code that trained it."""

import dataclasses
import json
import random
import re

import pytest
import torch

from ademvl.backbones.mini_llm import (
    MODEL_FILES,
    MiniLlmSettings,
    train_mini_llm,
)
from ademvl.backbones.mini_llm_rows import LETTERS, RowMaker
from ademvl.backbones.mini_llm_scores import evaluate_mini_llm
from ademvl.backbones.mini_llm_text import OneShape, draw_question, read_wordings
from ademvl.config.dataset import DatasetSettings
from ademvl.data.easy_vqa import COLORS, SHAPES, YES_NO, is_negated, true_answer
from ademvl.data.mini import convert_easy_vqa
from ademvl.data.tokenizer import load_tokenizer
from ademvl.llm.source import MINI_LLM_DIR
from ademvl.storage.files import sha256_file

MAX_LLM_BYTES = 5 << 20
MAX_SHIPPED_BYTES = 16 << 20
MARK = 0.97
SMOKE = MiniLlmSettings(
    width=32, layers=2, heads=2, feed_forward=64, batch_size=12, answer_layer=1,
    max_drill_steps=2, steps=4, slot_steps=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    pytest.importorskip("easy_vqa", reason="easy_vqa is missing: pip install easy-vqa==1.0")
    folder = tmp_path_factory.mktemp("mini") / "data"
    settings = DatasetSettings(
        train_questions=400,
        val_questions=8,
        test_questions=280,
        caption_train_images=8,
        caption_val_images=40,
        caption_test_images=8,
    )
    convert_easy_vqa(folder, settings)
    return folder / "scienceqa"


@pytest.fixture(scope="module")
def tokenizer():
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(MINI_LLM_DIR / "tokenizer.model"))


@pytest.fixture(scope="module")
def maker(tokenizer, data_dir):
    wordings = read_wordings(data_dir)
    return RowMaker(
        tokenizer, OneShape(wordings), random.Random(0), text_weight=0.05, caption_weight=0.3
    )


@pytest.fixture(scope="module")
def recipe():
    return json.loads((MINI_LLM_DIR / "RECIPE.json").read_text(encoding="utf-8"))


def test_files_are_those_of_the_recipe(recipe):
    assert recipe["sha256"] == {name: sha256_file(MINI_LLM_DIR / name) for name in MODEL_FILES}


def test_recipe_has_the_default_settings(recipe):
    assert MiniLlmSettings(**recipe["settings"]) == MiniLlmSettings()


def test_recorded_accuracy_with_the_caption_in_the_context_reaches_the_mark(recipe):
    for prompt_format in ("QCM-A", "CQM-A"):
        assert recipe["metrics"][prompt_format]["all"] >= MARK


def test_weights_are_small():
    assert sum((MINI_LLM_DIR / name).stat().st_size for name in MODEL_FILES) <= MAX_LLM_BYTES


def test_all_backbones_together_are_small_enough_to_ship():
    shipped = sum(path.stat().st_size for path in MINI_LLM_DIR.parent.rglob("*") if path.is_file())
    assert shipped <= MAX_SHIPPED_BYTES


@pytest.mark.parametrize("word", [*COLORS, *SHAPES, *YES_NO, *LETTERS])
def test_words_and_letters_are_single_pieces_wherever_they_stand(word):
    tokenizer = load_tokenizer(MINI_LLM_DIR)
    (piece,) = tokenizer.encode(word)

    assert tokenizer.encode(f"The answer is {word}.")[-2] == piece
    assert piece in tokenizer.encode(f"is there a {word}?")


def test_tokenizer_has_the_special_ids_of_llama(tokenizer):
    ids = tokenizer.unk_id(), tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()
    assert ids == (0, 1, 2, -1)
    text = "Context:  two  spaces\n12 ü"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_shipped_model_reads_captions_on_test_questions(recipe, data_dir):
    metrics = evaluate_mini_llm(MINI_LLM_DIR, data_dir)

    n = metrics["n"]
    assert n >= 200
    for prompt_format in ("QCM-A", "CQM-A"):
        expected = recipe["metrics"][prompt_format]["all"]
        # Four standard errors of a share near the mark, in a sample of n.
        assert metrics[prompt_format]["all"] >= expected - 4 * (MARK * (1 - MARK) / n) ** 0.5
    # Without context it can only guess: 1/2, 1/3, 1/4 by type, 0.40 in all; four standard errors.
    assert metrics["no_context"]["all"] <= 0.40 + 4 * (0.4 * 0.6 / n) ** 0.5


def test_wordings_leave_colors_and_shapes_open(data_dir):
    wordings = read_wordings(data_dir)

    for texts in wordings.values():
        assert not any(re.search(rf"\b({'|'.join((*COLORS, *SHAPES))})\b", t) for t in texts)
    assert all(is_negated(text) for text in wordings["negated"])
    assert not any(is_negated(text) for text in wordings["positive"])


def test_fresh_questions_are_true_and_balanced(data_dir):
    generator = random.Random(1)
    wordings = read_wordings(data_dir)

    for kind in wordings:
        drawn = [draw_question(kind, wordings, "teal", "circle", generator) for _ in range(400)]
        assert all(true_answer(q.text, "teal", "circle") == q.answer for q in drawn)
        assert all(q.answer in q.choices for q in drawn)
        if kind in ("positive", "negated"):
            # Half of 400, within four standard errors.
            assert 160 <= sum(q.answer == "yes" for q in drawn) <= 240


def test_drill_labels_each_word_with_its_letter(maker, tokenizer):
    row = maker.drill()

    text = tokenizer.decode(row.ids)
    asked = [place for place, weight in enumerate(row.weights) if weight]
    assert len(asked) == 8
    for place in asked:
        word = tokenizer.id_to_piece(row.ids[place]).lstrip("▁")
        letter = tokenizer.id_to_piece(row.labels[place]).lstrip("▁")
        assert f"({letter}) {word}" in text


def test_question_scores_its_letter_and_names_the_answer_to_the_middle_layer(maker, tokenizer):
    for _ in range(50):
        row = maker.question(hard_share=0.5, slot_share=0.0)
        scored = row.weights.index(1.0)
        letter = tokenizer.id_to_piece(row.ids[scored]).lstrip("▁")
        chosen = re.search(rf"\({letter}\) (\w+)", tokenizer.decode(row.ids)).group(1)
        if row.answer_places:
            assert tokenizer.id_to_piece(row.answer_id) == f"▁{chosen}"
            assert max(row.answer_places) == scored - 1


def test_slot_stands_right_behind_the_image_prefix(maker, tokenizer):
    rows = [maker.question(hard_share=0.5, slot_share=1.0) for _ in range(50)]

    prefix = [1, *tokenizer.encode("Image: ")]
    slots = [row for row in rows if row.slots]
    assert slots
    for row in slots:
        assert [place for place, _ in row.slots] == [len(prefix)]
        assert row.ids[: len(prefix) + 1] == [*prefix, 0]


def test_training_is_deterministic_and_leaves_the_global_generator_alone(tmp_path, data_dir):
    state = torch.random.get_rng_state()
    first = train_mini_llm(tmp_path / "first", data_dir, SMOKE, progress=False)
    second = train_mini_llm(tmp_path / "second", data_dir, SMOKE, progress=False)

    assert first["sha256"] == second["sha256"]
    assert first["settings"] == dataclasses.asdict(SMOKE)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_seed_changes_the_weights(tmp_path, data_dir):
    weights = [
        train_mini_llm(
            tmp_path / str(seed), data_dir, dataclasses.replace(SMOKE, seed=seed), progress=False
        )["sha256"]["model.safetensors"]
        for seed in (0, 1)
    ]
    assert weights[0] != weights[1]
