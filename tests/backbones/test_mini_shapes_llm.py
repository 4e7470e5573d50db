"""Protects the shipped language models of many_shapes: recipes, words, and what they read."""

import json
import random
import re
from dataclasses import replace

import pytest
from sentencepiece import SentencePieceProcessor

from ademvl.backbones import mini_shapes_llm
from ademvl.backbones.mini_llm import MODEL_FILES, MiniLlmSettings
from ademvl.backbones.mini_llm_rows import LETTERS, RowMaker
from ademvl.backbones.mini_llm_scores import evaluate_mini_llm
from ademvl.backbones.mini_shapes_llm import TEXT_ALONE, WITH_SLOTS, train_mini_shapes_llm
from ademvl.backbones.mini_shapes_text import ManyShapes
from ademvl.config.dataset import DatasetSettings
from ademvl.config.mini_backbones import MINI_LLMS
from ademvl.data.many_shapes import draw_many_shapes
from ademvl.storage.files import sha256_file

TEXT_DIR, SLOTS_DIR = MINI_LLMS["mini_shapes"], MINI_LLMS["mini_shapes_slots"]
SMOKE = replace(
    WITH_SLOTS,
    width=32, layers=2, heads=2, feed_forward=64, batch_size=12, answer_layer=1,
    max_drill_steps=2, steps=4, slot_steps=2,
)  # fmt: skip


def recipe_of(folder):
    return json.loads((folder / "RECIPE.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "data"
    draw_many_shapes(
        folder,
        DatasetSettings(
            source="many_shapes",
            seed=7,
            train_questions=8,
            val_questions=8,
            test_questions=400,
            caption_train_images=1,
            caption_val_images=1,
            caption_test_images=1,
        ),
    )
    return folder / "scienceqa"


@pytest.mark.parametrize(("folder", "settings"), [(TEXT_DIR, TEXT_ALONE), (SLOTS_DIR, WITH_SLOTS)])
def test_shipped_models_are_those_of_their_recipes(folder, settings):
    recipe = recipe_of(folder)

    assert recipe["sha256"] == {name: sha256_file(folder / name) for name in MODEL_FILES}
    assert MiniLlmSettings(**recipe["settings"]) == settings


def test_the_two_differ_in_slots_alone():
    assert replace(TEXT_ALONE, slot_share=WITH_SLOTS.slot_share) == WITH_SLOTS
    tokenizers = [(folder / "tokenizer.model").read_bytes() for folder in (TEXT_DIR, SLOTS_DIR)]
    assert tokenizers[0] == tokenizers[1]


def test_words_and_letters_are_single_pieces():
    tokenizer = SentencePieceProcessor(model_file=str(TEXT_DIR / "tokenizer.model"))

    for word in (*ManyShapes.words, *LETTERS):
        assert tokenizer.piece_to_id(f"▁{word}") != tokenizer.unk_id(), word


@pytest.mark.parametrize("folder", [TEXT_DIR, SLOTS_DIR])
def test_shipped_models_read_hints(folder, data_dir):
    expected, metrics = (
        recipe_of(folder)["metrics"],
        evaluate_mini_llm(folder, data_dir, ManyShapes.kind_of),
    )

    for prompt_format in ("QCM-A", "CQM-A"):
        share = expected[prompt_format]["all"]
        assert share > 0.7
        # Four standard errors of a share in a sample of n.
        bound = 4 * (share * (1 - share) / metrics["n"]) ** 0.5
        assert abs(metrics[prompt_format]["all"] - share) < bound
    # Without hint and picture they can only guess.
    assert metrics["no_context"]["all"] < 0.39 + 4 * (0.39 * 0.61 / metrics["n"]) ** 0.5


def test_some_questions_hold_their_answer_and_slots_come_only_where_asked_for():
    tokenizer = SentencePieceProcessor(model_file=str(TEXT_DIR / "tokenizer.model"))
    maker = RowMaker(
        tokenizer, ManyShapes(), random.Random(0), text_weight=0.05, caption_weight=0.3
    )
    rows = [maker.question(hard_share=0.5, slot_share=0.0) for _ in range(300)]

    assert not any(row.slots for row in rows)
    num_aside = 0
    for row in rows:
        text = tokenizer.decode(row.ids)
        (letter,) = re.search(r"The answer is ([A-D])\.", text).groups()
        answer = re.search(rf"\({letter}\) ([\w ]+?)(?: \(|\n)", text)[1]
        question = re.search(r"Question:(.*)", text)[1].lower()
        num_aside += "Context: N/A" in text and f" {answer} " in f"{question} "
    # About 45 of 145, and a few that hold the word by themselves.
    assert 60 < num_aside < 140


def test_training_is_deterministic(tmp_path, monkeypatch):
    few = replace(mini_shapes_llm.MEASURED, test_questions=40)
    monkeypatch.setattr(mini_shapes_llm, "MEASURED", few)
    recipes = [train_mini_shapes_llm(tmp_path / name, SMOKE) for name in ("a", "b")]
    other = train_mini_shapes_llm(tmp_path / "c", replace(SMOKE, seed=1))

    assert recipes[0]["sha256"] == recipes[1]["sha256"] != other["sha256"]
    assert recipes[0]["command"] == "ademvl backbones mini-shapes"
