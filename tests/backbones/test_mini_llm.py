"""Protects the shipped language model: its files, its tokenizer, and that its recipe is its own."""

import json

import pytest

from ademvl.backbones.mini_llm import MODEL_FILES, MiniLlmSettings
from ademvl.data.tokenizer import load_tokenizer
from ademvl.files import sha256_file
from ademvl.llm.loading import MINI_LLM_DIR

MAX_SHIPPED_BYTES = 8 << 20


@pytest.fixture(scope="module")
def recipe():
    return json.loads((MINI_LLM_DIR / "RECIPE.json").read_text(encoding="utf-8"))


def test_files_are_those_of_the_recipe(recipe):
    assert recipe["sha256"] == {name: sha256_file(MINI_LLM_DIR / name) for name in MODEL_FILES}


def test_recipe_has_the_default_settings(recipe):
    assert MiniLlmSettings(**recipe["settings"]) == MiniLlmSettings()


def test_recorded_accuracy_with_the_caption_in_the_context_reaches_the_mark(recipe):
    for prompt_format in ("QCM-A", "CQM-A"):
        assert recipe["metrics"][prompt_format]["all"] >= 0.97


def test_both_backbones_together_are_small_enough_to_ship():
    shipped = sum(path.stat().st_size for path in MINI_LLM_DIR.parent.rglob("*") if path.is_file())
    assert shipped <= MAX_SHIPPED_BYTES


@pytest.mark.parametrize("word", ["red", "teal", "circle", "triangle", "yes", "no", "A", "D"])
def test_words_and_letters_are_single_pieces(word):
    assert len(load_tokenizer(MINI_LLM_DIR).encode(word)) == 1
