"""Protects the fusion maps: right words, right places, and numbers that are the model's own."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ademvl.config.run import PromptSettings
from ademvl.config.settings_files import read_run
from ademvl.data.tokenizer import SentencePieceTokenizer
from ademvl.errors import SettingsError, WeightsError
from ademvl.reporting.figures.plotting import plotting
from ademvl.reporting.fusion_maps.drawing import WordMap, draw_fusion_map
from ademvl.reporting.fusion_maps.items import Choice, choose_items
from ademvl.reporting.fusion_maps.painting import (
    DARK,
    LIGHT,
    VEIL,
    Marks,
    dot_radius,
    marks_of_layer,
    marks_over_layers,
    paint,
    relative_scores,
)
from ademvl.reporting.fusion_maps.words import (
    ANSWER_WORD,
    MAX_WORDS,
    START_WORD,
    caption_words,
    question_words,
)
from ademvl.reporting.fusion_maps.write import write_fusion_maps
from ademvl.tasks.coco_caption.karpathy import write_references
from tests.tiny import make_captions, make_run, make_tokenizer, set_weights, write_run


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


def _light_share(pixels: np.ndarray) -> float:
    """Return the share of pixels in the colour of dots and crosses."""
    return float((pixels >= np.array(LIGHT) - 20).all(axis=2).mean())


def test_layer_has_dots_where_patches_were_kept_and_crosses_where_not() -> None:
    scores, is_kept = np.array([-9.0, 1.0, 2.0, 3.0]), np.array([False, True, True, True])
    marks = marks_of_layer(scores, is_kept)
    assert marks.dots.tolist() == pytest.approx([np.nan, 0.0, 0.5, 1.0], nan_ok=True)
    assert marks.drops.tolist() == [1, 0, 0, 0]


def test_over_all_layers_marks_say_how_many_dropped_a_patch() -> None:
    is_kept = np.array([[1, 1, 0, 0], [1, 0, 0, 1]], dtype=bool)
    marks = marks_over_layers(is_kept)
    assert marks.drops.tolist() == [0, 0.5, 1, 0.5]
    assert np.isnan(marks.dots).all()


def test_dots_have_the_area_of_their_score() -> None:
    from PIL import Image

    ground = Image.new("RGB", (8, 8), (90, 90, 90))
    for share in (0.25, 0.5, 1.0):
        pixels = paint(ground, Marks(np.array([share]), np.zeros(1)), size=200)
        inner = dot_radius(share) - 1 / 40  # without its rim
        assert _light_share(pixels) == pytest.approx(np.pi * inner**2, abs=0.02)


def test_picture_keeps_its_colours_beside_the_marks_and_is_darker_where_it_was_dropped() -> None:
    from PIL import Image

    halves = Image.new("RGB", (8, 8), (250, 0, 0))
    halves.paste((0, 0, 250), (4, 0, 8, 8))
    is_kept = np.arange(16) < 8  # the upper half
    pixels = paint(halves, marks_of_layer(np.arange(16.0), is_kept), size=160)
    for rows in (slice(0, 80), slice(80, 160)):  # kept, dropped
        opacity = VEIL if rows.start else 0.0
        corners = pixels[rows][::40, ::40]  # of patches, where no mark is
        for column, channel in ((0, 0), (3, 2)):
            expected = (1 - opacity) * 250 + opacity * DARK[channel]
            assert np.abs(corners[:, column, channel].astype(float) - expected).max() < 15
    assert _light_share(pixels[80:]) > 0.01  # crosses


def test_every_layer_stands_below_the_one_over_all_of_them_at_every_scale(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (12, 8), (200, 10, 10)).save(tmp_path / "image.png")
    scores = {scale: np.arange(5.0 * scale).reshape(5, scale) for scale in (16, 4)}
    is_kept = {scale: grid % scale >= scale / 4 for scale, grid in scores.items()}
    words = [WordMap("a $5 word", scores, is_kept), WordMap("other", scores, is_kept)]
    with plotting():
        figure = draw_fusion_map(tmp_path / "image.png", "question?", words)
    texts = [text.get_text() for text in figure.axes[0].texts]
    layers = ["all layers", *(f"layer {number}" for number in range(1, 6))]
    assert [text for text in texts if text in layers] == layers
    assert texts.count("kept 75 %") == 6 * 2 * 2
    assert [text for text in texts if text.endswith("patches")] == [
        "4 × 4 patches",
        "2 × 2 patches",
    ]


def test_legend_shows_the_marks_that_are_drawn(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8), (150, 155, 160)).save(tmp_path / "image.png")
    scores, is_kept = np.array([[1.0, 2.0, 3.0, 0.0]]), np.array([[True, True, True, False]])
    word = WordMap("word", {4: scores}, {4: is_kept})
    with plotting():
        figure = draw_fusion_map(tmp_path / "image.png", "question?", [word])
    axis = figure.axes[0]
    shown = {tuple(image.get_extent()): image.get_array() for image in axis.images}
    samples = {
        bottom: pixels for (left, right, bottom, _), pixels in shown.items() if right - left < 0.5
    }
    texts = [text for text in axis.texts if text.get_text().startswith(("dropped", "kept:"))]
    cell = axis.images[-1].get_array()  # of layer 1
    half = cell.shape[0] // 2
    patches = {
        "dropped": cell[half:, half:],
        "kept: the layer's lowest": cell[:half, :half],
        "kept: its highest": cell[half:, :half],
    }
    for name, patch in patches.items():
        (text,) = (text for text in texts if text.get_text().startswith(name))
        middle = text.get_position()[1]
        (sample,) = (found for bottom, found in samples.items() if abs(bottom - middle) < 0.16)
        assert _light_share(sample) == pytest.approx(_light_share(patch), abs=0.05), name


def test_scores_are_relative_to_the_kept_ones() -> None:
    scores, is_kept = np.array([-9.0, 1.0, 2.0, 3.0]), np.array([False, True, True, True])
    assert relative_scores(scores, is_kept).tolist() == [0.0, 0.0, 0.5, 1.0]
    assert relative_scores(scores, ~is_kept & is_kept).tolist() == [0.0] * 4


def _trained(folder: Path, **changes: Any) -> Path:
    from ademvl.model.adapter_file import save_adapter
    from ademvl.model.build import build_model

    run = make_run(folder, **changes)
    run_dir = write_run(folder / "runs" / "adem" / "seed0", run)
    save_adapter(run_dir / "adapter", build_model(run), run)
    return run_dir


def test_maps_hold_the_models_own_scores(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    write_fusion_maps(run_dir, run_dir / "maps", Choice(num_random=2))
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


def test_scores_that_are_not_finite_are_not_drawn(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    set_weights(run_dir, 1e38)
    with pytest.raises(WeightsError, match="scores of its words are not finite"):
        write_fusion_maps(run_dir, run_dir / "maps", Choice(num_random=2))
    assert not (run_dir / "maps").exists()


def test_same_seed_chooses_and_draws_the_same(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    written = []
    for name in ("first", "second"):
        write_fusion_maps(run_dir, run_dir / name, Choice(num_random=2, seed=3))
        written.append({path.name: path.read_bytes() for path in (run_dir / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"item_1.png", "item_2.png", "fusion_maps.json"}


def test_more_items_than_questions_is_all_of_them(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    write_fusion_maps(run_dir, run_dir / "maps", Choice(num_random=99))
    content = json.loads((run_dir / "maps" / "fusion_maps.json").read_text())
    ids = [item["question_id"] for item in content["items"]]
    assert len(ids) == len(set(ids)) < 99


def test_chosen_items_come_first_and_are_not_drawn_again(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    write_fusion_maps(run_dir, run_dir / "all", Choice(num_random=99))
    ids = [item["question_id"] for item in _items(run_dir / "all")]
    write_fusion_maps(run_dir, run_dir / "maps", Choice(ids=[ids[-1]], num_random=99))
    found = [item["question_id"] for item in _items(run_dir / "maps")]
    assert found[0] == ids[-1]
    assert sorted(found) == sorted(ids)


def test_unknown_ids_are_refused_by_name(tmp_path: Path) -> None:
    run_dir = _trained(tmp_path)
    with pytest.raises(SettingsError, match="id 7777 in split test"):
        write_fusion_maps(run_dir, run_dir / "maps", Choice(ids=["7777"]))
    assert not (run_dir / "maps").exists()


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least one"):
        Choice(num_random=0)


def test_words_of_a_caption_are_those_that_were_generated(
    tokenizer: SentencePieceTokenizer,
) -> None:
    prompt, caption = "a picture of", "a picture of a red square"
    ids = [tokenizer.bos_id, 0, *tokenizer.encode(prompt), *tokenizer.encode(caption)]
    start = 2 + len(tokenizer.encode(prompt))
    first, red, square = caption_words(
        tokenizer, ids, first_text_position=2, first_new_position=start, caption="a red square"
    )
    assert (first.word, first.position) == (START_WORD, start - 1)
    assert (red.word, square.word) == ("red", "square")
    assert square.position == len(ids) - 1
    assert red.position < square.position


def test_empty_caption_keeps_the_place_of_its_first_word(
    tokenizer: SentencePieceTokenizer,
) -> None:
    ids = [tokenizer.bos_id, *tokenizer.encode("a picture of")]
    (only,) = caption_words(
        tokenizer, ids, first_text_position=1, first_new_position=len(ids), caption=""
    )
    assert (only.word, only.position) == (START_WORD, len(ids) - 1)


def test_captions_have_maps_of_the_words_that_the_model_generates(tmp_path: Path) -> None:
    data = make_captions(tmp_path / "captions")
    _as_test_split(data)
    run_dir = _trained(tmp_path, task="coco_caption", data_dir=str(data))
    write_fusion_maps(run_dir, run_dir / "maps", Choice(ids=["2"], num_random=1))
    first, other = _items(run_dir / "maps")
    assert first["image_id"] == 2 != other["image_id"]
    assert first["references"] == ["a blue square", "a blue image"]
    assert first["words"][0]["word"] == START_WORD
    shown = [word["word"] for word in first["words"][1:]]
    assert all(word in first["caption"] for word in shown)


@pytest.mark.parametrize("task", ["scienceqa", "coco_caption"])
def test_rows_are_those_that_evaluation_reads(tmp_path: Path, task: str) -> None:
    from ademvl.evaluation.asking import task_of
    from ademvl.evaluation.task import TaskPredictions
    from ademvl.llm.tokenizer import load_llm_tokenizer
    from ademvl.tasks.registry import questions_of

    changes = {}
    if task == "coco_caption":
        changes["data_dir"] = str(make_captions(tmp_path / "captions"))
        _as_test_split(tmp_path / "captions")
    prompts = PromptSettings(
        max_seq_len=30, evaluation_window=40, overflow="cut_end", caption_cue="as_trained"
    )
    run_dir = _trained(tmp_path, task=task, prompts=prompts, **changes)
    run = read_run(run_dir)
    llm_tokenizer = load_llm_tokenizer(run.backbones)
    asked = task_of(run, llm_tokenizer, questions_of(run))
    evaluated = TaskPredictions(run, run_dir, asked, llm_tokenizer).tokenize()
    expected = {row.item_id: row.ids.tolist() for row in evaluated}
    found = [item.row for item in choose_items(run, llm_tokenizer, Choice(num_random=99))]
    assert len(found) > 1
    assert all(row.ids.tolist() == expected[row.item_id] for row in found)


def _as_test_split(data: Path) -> None:
    """Let the training captions be evaluated on."""
    rows = json.loads((data / "karpathy/coco_karpathy_train.json").read_text())
    by_image: dict[str, list[str]] = {}
    for row in rows:
        by_image.setdefault(row["image"], []).append(row["caption"])
    images = [{"image": name, "caption": texts} for name, texts in by_image.items()]
    (data / "karpathy/coco_karpathy_test.json").write_text(json.dumps(images))
    write_references(data, "test")


def _items(folder: Path) -> list[dict[str, Any]]:
    content = json.loads((folder / "fusion_maps.json").read_text())
    return content["items"]


def test_run_without_images_is_refused(tmp_path: Path) -> None:
    run = dataclasses.replace(make_run(tmp_path), images="withheld")
    run_dir = write_run(tmp_path / "run", run)
    with pytest.raises(SettingsError, match="found scienceqa, withheld and method adem"):
        write_fusion_maps(run_dir, run_dir / "maps", Choice(num_random=1))
    assert not (run_dir / "maps").exists()
