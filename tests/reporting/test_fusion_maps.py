"""Protects the fusion maps: right words, right places, and numbers that are the model's own."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ademvl.data.tokenizer import SentencePieceTokenizer
from ademvl.errors import SettingsError
from ademvl.reporting.figures import plotting
from ademvl.reporting.fusion_drawing import WordMap, draw_fusion_map, shown_layers
from ademvl.reporting.fusion_maps import write_fusion_maps
from ademvl.reporting.fusion_words import ANSWER_WORD, MAX_WORDS, question_words
from tests.tiny import make_run, make_tokenizer, write_run


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    make_tokenizer(path)
    return SentencePieceTokenizer.from_file(path)


def _row(tokenizer: SentencePieceTokenizer, text: str) -> list[int]:
    return [tokenizer.bos_id, 0, *tokenizer.encode(text)]


def test_words_are_content_words_of_the_question(tokenizer: SentencePieceTokenizer) -> None:
    text = "Context: The hat.\nQuestion: What color is the square?\nOptions: (A) red\nResponse:"
    words = question_words(tokenizer, _row(tokenizer, text), first_text_position=2)
    assert [word.word for word in words] == ["color", "square", ANSWER_WORD]


def test_word_stands_at_the_token_that_ends_it(tokenizer: SentencePieceTokenizer) -> None:
    ids = _row(tokenizer, "Question: What color is the square?\nOptions: (A) red\nResponse:")
    color, square, answer = question_words(tokenizer, ids, first_text_position=2)
    for word in (color, square):
        read = tokenizer.decode(ids[2 : word.position + 1])
        assert read.rstrip("?").endswith(word.word)
        assert word.word not in tokenizer.decode(ids[2 : word.position])
    assert answer.position == len(ids) - 1


def test_number_of_words_is_bounded_and_words_come_once(tokenizer: SentencePieceTokenizer) -> None:
    question = "red green blue red gray square color"
    ids = _row(tokenizer, f"Question: {question}\nOptions: (A) red\nResponse:")
    words = [word.word for word in question_words(tokenizer, ids, first_text_position=2)]
    assert words == ["red", "green", "blue", "gray", "square", ANSWER_WORD]
    assert len(words) == MAX_WORDS + 1


def test_prompt_without_question_keeps_the_answer(tokenizer: SentencePieceTokenizer) -> None:
    (only,) = question_words(tokenizer, _row(tokenizer, "Response:"), first_text_position=2)
    assert only.word == ANSWER_WORD


@pytest.mark.parametrize(
    ("num_layers", "expected"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 3]), (32, [0, 15, 31])]
)
def test_first_middle_and_last_layer_are_shown(num_layers: int, expected: list[int]) -> None:
    assert shown_layers(num_layers) == expected


def test_drawing_crosses_exactly_what_was_dropped(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (12, 8), (200, 10, 10)).save(tmp_path / "image.png")
    scores = np.arange(32, dtype=np.float64).reshape(2, 16)
    is_kept = scores % 16 >= 3
    word = WordMap("a $5 word", {16: scores}, {16: is_kept})
    with plotting():
        figure = draw_fusion_map(tmp_path / "image.png", "question?", [word])
    all_layers, first, second = (axis for axis in figure.axes if axis.get_xlabel())
    assert first.get_xlabel() == "kept 81 %"  # 13 of 16
    for axis in (all_layers, first, second):
        assert len(axis.collections[-1].get_offsets()) == 3


def _trained(folder: Path) -> Path:
    from ademvl.adapter_file import save_adapter
    from ademvl.model import build_model

    run = make_run(folder)
    run_dir = write_run(folder / "runs" / "adem" / "seed0", run)
    save_adapter(run_dir / "adapter", build_model(run), run)
    return run_dir


def test_maps_hold_the_models_own_scores(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    write_fusion_maps(run_dir, run_dir / "maps", num_items=2, seed=0)
    content = json.loads((run_dir / "maps" / "fusion_maps.json").read_text())
    assert (content["scales"], content["gamma"], len(content["items"])) == ([16, 4], 0.1, 2)
    for item in content["items"]:
        assert (run_dir / "maps" / item["picture"]).stat().st_size > 1000
        for word in item["words"]:
            fine, coarse = word["scales"]
            for layer, other in zip(fine["layers"], coarse["layers"], strict=True):
                kept = layer["kept"] + other["kept"]
                scores = [float(s) for s in f"{layer['scores']} {other['scores']}".split()]
                # The threshold is the floor(0.1 * 20)-th smallest score, counted from 0.
                threshold = sorted(scores)[2]
                assert [flag == "1" for flag in kept] == [s >= threshold for s in scores]
                assert layer["kept_fraction"] == pytest.approx(layer["kept"].count("1") / 16)


def test_same_seed_chooses_and_draws_the_same(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    written = []
    for name in ("first", "second"):
        write_fusion_maps(run_dir, run_dir / name, num_items=2, seed=3)
        written.append({path.name: path.read_bytes() for path in (run_dir / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"item_1.png", "item_2.png", "fusion_maps.json"}


def test_more_items_than_questions_is_all_of_them(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    write_fusion_maps(run_dir, run_dir / "maps", num_items=99, seed=0)
    content = json.loads((run_dir / "maps" / "fusion_maps.json").read_text())
    ids = [item["question_id"] for item in content["items"]]
    assert len(ids) == len(set(ids)) < 99


def test_run_without_images_is_refused(tmp_path: Path) -> None:
    run = dataclasses.replace(make_run(tmp_path), images="withheld")
    run_dir = write_run(tmp_path / "run", run)
    with pytest.raises(SettingsError, match="found scienceqa, withheld and adem"):
        write_fusion_maps(run_dir, run_dir / "maps", num_items=1, seed=0)
    assert not (run_dir / "maps").exists()
