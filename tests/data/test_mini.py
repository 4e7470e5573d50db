"""Protects the mini data: right answers, clean splits, real layouts, safe conversion."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ademvl.config.dataset import DatasetSettings
from ademvl.data import mini_layout
from ademvl.data.easy_vqa import (
    COLORS,
    SHAPES,
    find_source,
    is_negated,
    load_questions,
    mentioned,
    question_type,
    true_answer,
)
from ademvl.data.mini import CAPTION_TEMPLATES, convert_easy_vqa
from ademvl.data.mini_wordings import NEVER_RIGHT, OTHER_WORDINGS
from ademvl.errors import DataError, SettingsError, ToolError
from ademvl.storage.folders import folder_built_aside

SMALL = DatasetSettings(
    train_questions=800,
    val_questions=160,
    test_questions=320,
    caption_train_images=40,
    caption_val_images=60,
    caption_test_images=20,
)
SOURCE_IMAGES = {"train": 400, "test": 120}
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The first images of the package with their questions, laid out as the package is."""
    folder = tmp_path_factory.mktemp("source")
    package, _ = find_source()
    for split, number in SOURCE_IMAGES.items():
        (folder / split / "images").mkdir(parents=True)
        for image in range(number):
            name = f"{split}/images/{image}.png"
            (folder / name).write_bytes((package / name).read_bytes())
        rows = [row for row in read(package / split / "questions.json") if row[2] < number]
        (folder / split / "questions.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def mini(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini") / "data"
    convert_easy_vqa(folder, SMALL, source=source)
    return folder


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def problems(mini):
    return read(mini / "scienceqa/problems.json")


def tree(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_question_counts_follow_the_settings(mini, problems):
    splits = read(mini / "scienceqa/pid_splits.json")
    assert {split: len(splits[split]) for split in SPLITS} == {
        "train": 800,
        "val": 160,
        "test": 320,
    }
    assert splits["trainval"] == splits["train"] + splits["val"]
    assert [len(splits[f"mini{split}"]) for split in SPLITS] == [80, 16, 32]
    assert sorted(problems) == sorted(splits["train"] + splits["val"] + splits["test"])
    assert all(problems[item]["split"] == split for split in SPLITS for item in splits[split])


def test_a_quarter_of_each_split_is_text_only(mini, problems):
    for split in SPLITS:
        rows = [row for row in problems.values() if row["split"] == split]
        assert sum(row["image"] is None for row in rows) == len(rows) // 4
        assert all((row["image"] is None) == bool(row["hint"]) for row in rows)


def test_fields_are_those_of_scienceqa(mini, problems, real_dir):
    real = read(real_dir / "scienceqa_subset/problems.json")
    assert {frozenset(row) for row in problems.values()} == {frozenset(real["1"])}
    assert set(read(mini / "scienceqa/captions.json")) <= set(
        read(real_dir / "scienceqa_subset/captions.json")
    )


def expected_answer(question, color, shape):
    """Second implementation of the package's logic, from the wording alone."""
    words = question.lower().rstrip("?.").split()
    if words[0] in ("what", "which", "name"):
        return color if "color" in words else shape
    named = {word for word in words if word in COLORS or word in SHAPES}
    truth = named <= {color, shape}
    return "yes" if truth ^ bool({"not", "no"} & set(words)) else "no"


def test_every_answer_follows_from_colour_and_shape(problems):
    for row in problems.values():
        color, shape = re.fullmatch(r"The shape is a (\w+) (\w+)\.", row["solution"]).groups()
        assert row["choices"][row["answer"]] == expected_answer(row["question"], color, shape)


def test_every_question_of_the_package_agrees_with_the_measured_pixels():
    source, _ = find_source()
    for split, images, questions in (("train", 4000, 38575), ("test", 1000, 9673)):
        rows = load_questions(source, split)
        assert len(rows) == questions
        assert len({row.image for row in rows}) == images
        for row in rows:
            assert row.answer == expected_answer(row.text, row.image.color, row.image.shape)


def test_choices_are_distinct_and_of_the_right_kind(problems):
    for row in problems.values():
        choices = set(row["choices"])
        assert 2 <= len(choices) == len(row["choices"]) <= 4
        right = row["choices"][row["answer"]]
        if right in COLORS:
            assert choices <= set(COLORS)
        elif right in SHAPES:
            assert choices <= {*SHAPES, *NEVER_RIGHT["shape"]}
        else:
            assert {"yes", "no"} <= choices <= {"yes", "no", *NEVER_RIGHT["yes_no"]}


def test_every_kind_of_question_has_two_to_four_choices(problems):
    found = Counter((row["skill"], len(row["choices"])) for row in problems.values())
    assert len(found) == 4 * 3
    by_kind = Counter()
    for (kind, _), number in found.items():
        by_kind[kind] += number
    assert all(number > by_kind[kind] / 4 for (kind, _), number in found.items())


def test_half_of_the_questions_are_worded_beyond_the_package(problems, source):
    own = {row[0] for split in ("train", "test") for row in read(source / split / "questions.json")}
    texts = [row["question"] for row in problems.values()]
    share = sum(text.lower() not in own for text in texts) / len(texts)
    assert 0.45 < share < 0.55
    assert 0.45 < sum(text[0].isupper() for text in texts) / len(texts) < 0.55


@pytest.mark.parametrize("meaning", OTHER_WORDINGS)
def test_other_wordings_mean_what_they_stand_under(meaning):
    kind, subject, negated = meaning
    for wording in OTHER_WORDINGS[meaning]:
        text = wording.format(color="teal", shape="circle")
        assert question_type(text) == question_type(text.capitalize()) == kind
        assert is_negated(text) == negated
        assert (mentioned(text, COLORS) is not None) == (subject == "color")
        assert (mentioned(text, SHAPES) is not None) == (subject == "shape")
        for color, shape in (("teal", "circle"), ("red", "triangle")):
            assert true_answer(text, color, shape) == expected_answer(text, color, shape)


def test_answer_positions_and_yes_no_are_balanced(problems):
    rows = [row for row in problems.values() if row["split"] == "train"]
    for size in (2, 3, 4):
        places = Counter(row["answer"] for row in rows if len(row["choices"]) == size)
        assert max(places.values()) < 1.6 * min(places.values())
    wordings = {
        (negated, asks_color): Counter(
            row["choices"][row["answer"]]
            for row in rows
            if "yes" in row["choices"]
            and bool(re.search(r"\b(not|no)\b", row["question"])) == negated
            and any(color in row["question"] for color in COLORS) == asks_color
        )
        for negated in (True, False)
        for asks_color in (True, False)
    }
    assert {tuple(sorted(counts.items())) for counts in wordings.values()} == {
        (("no", 50), ("yes", 50))
    }


def test_text_only_hint_holds_the_answer(problems):
    for row in problems.values():
        if row["hint"]:
            color, shape = row["solution"].rstrip(".").split()[-2:]
            assert {color, shape} <= set(row["hint"].split())


def test_all_subjects_and_both_grade_bands_occur(problems):
    for split in SPLITS:
        rows = [row for row in problems.values() if row["split"] == split]
        assert {row["subject"] for row in rows} == {
            "natural science",
            "social science",
            "language science",
        }
        for row in rows:
            negated = bool(re.search(r"\b(not|no)\b", row["question"]))
            assert (int(row["grade"].removeprefix("grade")) > 6) == negated


def test_no_image_is_shared_between_train_and_validation(mini):
    from PIL import Image

    def pixels(paths):
        return {Image.open(path).tobytes() for path in paths}

    seen = {}
    for split in SPLITS:
        rows = read(mini / f"coco_caption/karpathy/coco_karpathy_{split}.json")
        files = [mini / "coco_caption/images" / row["image"] for row in rows]
        files += (mini / "scienceqa/images" / split).glob("*/image.png")
        seen[split] = pixels(files)
    assert not seen["train"] & seen["val"]
    assert not (seen["train"] | seen["val"]) & seen["test"]


def test_images_lie_where_problems_say(mini, problems):
    found = {path.parent.name for path in (mini / "scienceqa/images").glob("*/*/image.png")}
    assert found == {item for item, row in problems.items() if row["image"]}
    assert all(
        (mini / "scienceqa/images" / problems[item]["split"] / item).is_dir() for item in found
    )


def test_caption_files_agree_with_each_other(mini):
    folder = mini / "coco_caption"
    for split, images in (("train", 40), ("val", 60), ("test", 20)):
        annotations = read(folder / f"annotations/captions_{split}.json")
        references = {row["id"]: [] for row in annotations["images"]}
        assert len(references) == images
        for row in annotations["annotations"]:
            references[row["image_id"]].append(row["caption"])
        assert all(len(set(captions)) == 5 for captions in references.values())
        names = {row["file_name"]: row["id"] for row in annotations["images"]}
        assert all((folder / "images" / name).is_file() for name in names)
        rows = read(folder / f"karpathy/coco_karpathy_{split}.json")
        if split == "train":
            assert sorted((names[row["image"]], row["caption"]) for row in rows) == sorted(
                (image_id, caption) for image_id, items in references.items() for caption in items
            )
            assert all(row["image_id"] == f"coco_{names[row['image']]}" for row in rows)
        else:
            assert {names[row["image"]]: row["caption"] for row in rows} == references
            truth = read(folder / f"karpathy/coco_karpathy_{split}_gt.json")
            assert truth["annotations"] == annotations["annotations"]
            assert {row["id"] for row in truth["images"]} == set(references)


def test_captions_name_colour_and_shape():
    for template in CAPTION_TEMPLATES:
        caption = template.format(color="teal", shape="circle")
        assert caption.islower()
        assert caption.replace(" ", "").isalpha()
        assert {"teal", "circle"} <= set(caption.split())
        assert len(caption.split()) >= 4  # BLEU-4 counts runs of four words


def test_two_conversions_are_byte_identical(mini, source, tmp_path):
    convert_easy_vqa(tmp_path / "again", SMALL, source=source)
    assert tree(tmp_path / "again") == tree(mini)


def test_conversion_works_where_links_do_not(mini, source, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(mini_layout.os, "link", refuse)
    convert_easy_vqa(tmp_path / "copied", SMALL, source=source)
    assert tree(tmp_path / "copied") == tree(mini)


KILLED = """
import os, signal, sys
from pathlib import Path
from ademvl.data import mini, mini_layout
from tests.data.test_mini import SMALL
calls = 0
def dying(write):
    def wrapper(*args):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        write(*args)
    return wrapper
mini_layout.write_json = dying(mini_layout.write_json)
mini.convert_easy_vqa(Path(sys.argv[1]), SMALL, source=Path(sys.argv[3]))
"""


@pytest.mark.parametrize("call", [1, 12])
def test_killed_conversion_leaves_nothing_that_looks_finished(mini, source, tmp_path, call):
    root = Path(__file__).resolve().parents[2]
    target = tmp_path / "killed"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(target), str(call), str(source)],
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert run.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    convert_easy_vqa(target, SMALL, source=source)
    assert tree(target) == tree(mini)
    assert list(tmp_path.iterdir()) == [target]


def test_failure_while_building_keeps_the_earlier_result(tmp_path):
    target = tmp_path / "data"
    with folder_built_aside(target, entries=("a",)) as folder:
        (folder / "a").write_text("first")
    with pytest.raises(RuntimeError), folder_built_aside(target, entries=("a",)) as folder:
        raise RuntimeError
    assert tree(tmp_path) == {"data/a": b"first"}


def test_folder_of_a_living_process_is_left_alone(tmp_path):
    target = tmp_path / "data"
    with folder_built_aside(target, entries=("a",)) as first:
        (first / "a").write_text("first")
        with folder_built_aside(target, entries=("a",)) as second:
            (second / "a").write_text("second")
        assert (first / "a").exists()
    assert tree(tmp_path) == {"data/a": b"first"}


def test_foreign_files_are_never_replaced(source, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        convert_easy_vqa(tmp_path, SMALL, source=source)
    assert (tmp_path / "thesis.tex").exists()


def test_missing_package_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ToolError, match="pip install easy-vqa"):
        convert_easy_vqa(tmp_path / "data", SMALL)


@pytest.fixture
def package(tmp_path):
    """A package with one image, whose questions a test may change."""
    source, _ = find_source()
    for split in ("train", "test"):
        folder = tmp_path / "package" / split / "images"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes((source / split / "images/0.png").read_bytes())
        (folder.parent / "questions.json").write_text('[["what is the red shape?", "circle", 0]]')
    return tmp_path / "package"


def test_wrong_answer_in_the_package_is_an_error(package):
    with pytest.raises(DataError, match=r"image 0 .*what is the red shape"):
        load_questions(package, "train")


def test_missing_image_in_the_package_is_an_error(package):
    (package / "train/images/0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png: missing"):
        load_questions(package, "train")


def test_truncated_image_in_the_package_is_an_error(package):
    image = package / "train/images/0.png"
    image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(DataError, match=r"0\.png"):
        load_questions(package, "train")


@pytest.mark.parametrize("text", ["[", '[["only text"]]', '{"a": 1}'])
def test_malformed_questions_are_an_error(package, text):
    (package / "train/questions.json").write_text(text)
    with pytest.raises(DataError, match=r"questions\.json"):
        load_questions(package, "train")


def test_too_many_questions_are_refused_with_the_largest_number_that_works(source, tmp_path):
    def convert(number):
        settings = replace(SMALL, test_questions=number)
        convert_easy_vqa(tmp_path / "data", settings, source=source)

    with pytest.raises(SettingsError) as caught:
        convert(90_000)
    assert not list(tmp_path.iterdir())
    said = re.search(r"test_questions: 90000 asked for, .* ask for (\d+)", str(caught.value))
    most = int(said[1])
    with pytest.raises(SettingsError, match=f"ask for {most}[.]"):
        convert(most + 1)
    convert(most)
    assert len(read(tmp_path / "data/scienceqa/pid_splits.json")["test"]) == most


@pytest.mark.parametrize("num_images", [1, 2, 4])
@pytest.mark.parametrize("wanted", [1, 3, 4, 6, 8, 9, 10, 12, 16])
def test_a_number_that_is_refused_comes_with_one_that_works(source, tmp_path, num_images, wanted):
    """Of few images 10 questions can be there where 8 are not: numbers round differently."""
    settings = replace(SMALL, caption_val_images=num_images, val_questions=wanted)
    message = ""
    try:
        convert_easy_vqa(tmp_path / "data", settings, source=source)
    except SettingsError as error:
        message = str(error)
    if not message:
        return
    start = f"val_questions: {wanted} asked for, but the {num_images} images of the split have"
    assert message.startswith(start)
    assert re.search(r"answer (yes|no): \d+ of \d+|about the (color|shape): \d+ of", message)
    assert "raise caption_val_images" in message
    if said := re.search(r"ask for (\d+) or", message):
        assert 0 < int(said[1]) < wanted
        fewer = replace(settings, val_questions=int(said[1]))
        convert_easy_vqa(tmp_path / "data", fewer, source=source)


def test_empty_splits_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="val_questions: 0"):
        convert_easy_vqa(tmp_path / "data", DatasetSettings(val_questions=0))
