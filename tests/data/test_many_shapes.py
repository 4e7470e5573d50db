"""Protects the data set many_shapes: its parts agree, and guessing is no use.

What texts say is read here with words of its own, not with the code that wrote them.
"""

import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from PIL import Image

from ademvl.config.dataset import DatasetSettings
from ademvl.data.many_shapes import KIND_OF_SKILL, KIND_SHARES, SceneImage, draw_many_shapes
from ademvl.data.scene_captions import caption_words, draw_caption
from ademvl.data.scenes import COLOR_VALUES, COLORS, PLACES, SHAPES, SIZES, draw_scene, render
from ademvl.tasks.layout import make_dataset
from ademvl.tasks.verification import VerificationChoices, verify_dataset

SMALL = DatasetSettings(
    source="many_shapes",
    train_questions=3000,
    val_questions=100,
    test_questions=900,
    text_only_fraction=0.1,
    caption_train_images=60,
    caption_val_images=40,
    caption_test_images=50,
)
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
NEXT = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
CELLS = {name: cell for cell, name in PLACES.items()}
OBJECT = rf"a ({'|'.join(SIZES)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "data"
    draw_many_shapes(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def problems(data):
    return read(data / "scienceqa/problems.json")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def told(text):
    """Read objects with their places: (size, color, shape, cell)."""
    found = re.findall(rf"{OBJECT} in the ({'|'.join(CELLS)})", text)
    return [(size, color, shape, CELLS[place]) for size, color, shape, place in found]


def singular(word):
    return "cross" if word.startswith("cross") else word.removesuffix("s")


def having(objects, words):
    """Return the objects that have all of some properties; "object" is none."""
    wanted = {singular(word) for word in words.split()} - {"object"}
    return [item for item in objects if wanted <= set(item[:3])]


def answer(text, objects, choices):
    """Answer a question about objects."""
    text = text.lower().rstrip("?.")
    attribute = 1 if "color" in text else 2
    if re.match(r"which (color|shape) (can be|does the image|is in)", text):
        (shown,) = {item[attribute] for item in objects} & set(choices)
        return shown
    if found := re.search(r"object in the (\w+-\w+|center)", text):
        (item,) = (item for item in objects if item[3] == CELLS[found[1]])
        return item[attribute]
    if found := re.search(r"object (left of|right of|above|below) the (\w+ \w+)", text):
        (base,) = having(objects, found[2])
        cell = tuple(a + b for a, b in zip(base[3], NEXT[found[1]], strict=True))
        (item,) = (item for item in objects if item[3] == cell)
        return item[attribute]
    if found := re.search(r"(?:color|shape) (?:is|does|of) the ([a-z ]+?)(?: have)?$", text):
        (item,) = having(objects, found[1])
        return item[attribute]
    if found := re.search(r"how many ([a-z ]+?) (?:are there|can be seen|does)", text):
        number = len(having(objects, found[1]))
        return next(word for word, value in NUMBERS.items() if value == number)
    if found := re.search(r"(more|fewer) ([a-z ]+) than ([a-z ]+)", text):
        first, second = (len(having(objects, found[group])) for group in (2, 3))
        return "yes" if (first > second) == (found[1] == "more") and first != second else "no"
    if found := re.search(r"is the (.+) (larger|smaller) than the (.+)", text):
        (first,), (second,) = having(objects, found[1]), having(objects, found[3])
        wanted = ("large", "small") if found[2] == "larger" else ("small", "large")
        return "yes" if (first[0], second[0]) == wanted else "no"
    found = re.search(r"(?:is there|can|show|is) a (.+?)(?: be seen| in the image)?$", text)
    return "yes" if having(objects, found[1]) else "no"


def holds(caption, objects):
    """Tell whether a caption is true of objects."""
    if found := re.fullmatch(r"(\w+) objects on a light background", caption):
        return NUMBERS[found[1]] == len(objects)
    if found := re.fullmatch(r"a (\w+ \w+) (left of|right of|above|below) a (\w+ \w+)", caption):
        step = NEXT[found[2]]
        cells = {
            tuple(a + b for a, b in zip(i[3], step, strict=True)) for i in having(objects, found[3])
        }
        return any(item[3] in cells for item in having(objects, found[1]))
    parts = caption.split(" and ")
    if all(re.match(rf"({'|'.join(NUMBERS)}) ", part) for part in parts):
        numbers = [part.split(" ", 1) for part in parts]
        is_whole = sum(NUMBERS[number] for number, _ in numbers) == len(objects)
        return is_whole and all(NUMBERS[n] == len(having(objects, words)) for n, words in numbers)
    if all(part.startswith("the ") for part in parts):
        placed = {(color, shape, place) for _, place, color, shape in map(str.split, parts)}
        places = {cell: name for name, cell in CELLS.items()}
        return placed <= {(color, shape, places[cell]) for _, color, shape, cell in objects}
    named = Counter(re.fullmatch(OBJECT, part).groups() for part in parts)
    return named <= Counter(item[:3] for item in objects)


def test_the_picture_shows_what_the_scene_says():
    for seed in range(60):
        scene = draw_scene(random.Random(seed))
        image = render(scene)
        shown = {}
        for item in scene.objects:
            pixel = image.getpixel((round(item.center[0]), round(item.center[1])))
            shown[item.cell] = min(
                COLOR_VALUES,
                key=lambda name, pixel=pixel: sum(
                    (a - b) ** 2 for a, b in zip(COLOR_VALUES[name], pixel, strict=True)
                ),
            )
        assert shown == {item.cell: item.color for item in scene.objects}
        outside = image.copy()
        for item in scene.objects:
            left, top, right, bottom = item.box
            box = (int(left), int(top), int(right) + 1, int(bottom) + 1)
            outside.paste(scene.background, box)
        assert outside.getcolors() == [(image.width * image.height, scene.background)]


def test_shapes_and_sizes_can_be_told_by_their_areas():
    areas = defaultdict(list)
    for seed in range(300):
        scene = draw_scene(random.Random(seed))
        pixels = render(scene).load()
        for item in scene.objects:
            left, top, right, bottom = (round(value) for value in item.box)
            inside = [
                sum(abs(a - b) for a, b in zip(pixels[x, y], scene.background, strict=True)) > 100
                for x in range(max(left, 0), min(right, 64))
                for y in range(max(top, 0), min(bottom, 64))
            ]
            areas[item.size, item.shape].append(sum(inside))
    means = {key: sum(values) / len(values) for key, values in areas.items()}
    for size in SIZES:
        order = sorted(SHAPES, key=lambda shape, size=size: means[size, shape])
        assert order[-2:] == ["circle", "square"]
    assert max(areas["small", "square"]) < min(areas["large", "cross"])


def test_every_answer_follows_from_the_picture(problems):
    for problem in problems.values():
        objects = told(problem["solution"])
        assert 2 <= len(objects) <= 5
        right = problem["choices"][problem["answer"]]
        assert right == answer(problem["question"], objects, problem["choices"]), problem


def test_hints_and_captions_are_true(data, problems):
    captions = read(data / "scienceqa/captions.json")["captions"]
    for number, problem in problems.items():
        caption = problem["hint"] or captions[number]
        assert holds(caption, told(problem["solution"])), problem


def test_references_are_true_different_and_short(data):
    rows = read(data / "coco_caption/karpathy/coco_karpathy_test.json")
    assert len(rows) == SMALL.caption_test_images
    for row in rows:
        image = SceneImage(SMALL.seed, "test", int(row["image"][:12]) - 20_000_000)
        objects = [(i.size, i.color, i.shape, i.cell) for i in image.scene.objects]
        assert len(set(row["caption"])) == 5
        for caption in row["caption"]:
            assert holds(caption, objects), (caption, objects)
            assert set(caption.split()) <= set(caption_words())
            assert len(caption.split()) <= 19  # evaluation asks for 20 tokens


def test_captions_tell_more_than_one_thing():
    scene = draw_scene(random.Random(4))
    captions = {draw_caption(scene, random.Random(seed)) for seed in range(200)}
    assert len(captions) > 20


def test_options_are_two_to_four_different_ones(problems):
    numbers = Counter()
    for problem in problems.values():
        choices = problem["choices"]
        assert len(set(choices)) == len(choices)
        numbers[len(choices)] += 1
    assert set(numbers) == {2, 3, 4}
    assert min(numbers.values()) > 0.2 * len(problems)


def form(problem):
    """What is asked, without what is named: the wording and the sort of its words."""
    text = problem["question"].lower()
    for words, name in ((COLORS, "C"), (SHAPES, "F"), (SIZES, "S"), (CELLS, "P"), (NEXT, "R")):
        plural = [f"{word}es" if word == "cross" else f"{word}s" for word in words]
        text = re.sub(rf"\b({'|'.join([*plural, *words])})\b", name, text)
    return text


def test_guessing_without_the_picture_is_near_the_floor(problems):
    """Neither the wording nor the options tell the answer: by place, by word, by number."""
    shown = [problem for problem in problems.values() if problem["image"]]
    floor = sum(1 / len([c for c in p["choices"] if c not in ("maybe", "unclear")]) for p in shown)
    by_place, by_word = defaultdict(Counter), defaultdict(Counter)
    for problem in shown:
        right = problem["choices"][problem["answer"]]
        by_place[form(problem), len(problem["choices"])][problem["answer"]] += 1
        by_word[form(problem)][right] += 1
    train = [problem for problem in shown if problem["split"] == "train"]
    test = [problem for problem in shown if problem["split"] == "test"]
    learned = defaultdict(Counter)
    for problem in train:
        learned[form(problem)][problem["choices"][problem["answer"]]] += 1
    guessed = sum(
        max(p["choices"], key=lambda c, p=p: learned[form(p)][c]) == p["choices"][p["answer"]]
        for p in test
    )
    share = floor / len(shown)
    assert 0.36 < share < 0.41
    # Four standard errors of a share near 0.38 in a sample of this size.
    assert guessed / len(test) < share + 4 * (0.38 * 0.62 / len(test)) ** 0.5
    for counts in by_word.values():
        possible = len(counts)
        total = counts.total()
        assert max(counts.values()) / total < 1 / possible + 5 * (0.25 / total) ** 0.5
    for (_, number), counts in by_place.items():
        total = counts.total()
        assert max(counts.values()) / total < 1 / number + 5 * (0.25 / total) ** 0.5


def test_kinds_have_their_shares_with_and_without_image(problems):
    for has_image in (True, False):
        kinds = Counter(
            KIND_OF_SKILL[p["skill"]] for p in problems.values() if bool(p["image"]) == has_image
        )
        for kind, share in KIND_SHARES.items():
            assert abs(kinds[kind] / kinds.total() - share) < 0.01


def test_text_only_questions_have_a_hint_and_no_image(problems):
    text_only = [problem for problem in problems.values() if not problem["image"]]
    assert abs(len(text_only) - 0.1 * len(problems)) <= len(KIND_SHARES) * 3  # rounded by kind
    assert all(problem["hint"] for problem in text_only)
    assert not any(problem["hint"] for problem in problems.values() if problem["image"])


def test_no_question_is_asked_twice_about_a_picture(data, problems):
    asked = Counter(
        (problem["solution"], problem["question"].lower()) for problem in problems.values()
    )
    assert max(asked.values()) == 1


def test_the_same_seed_draws_the_same_bytes_and_another_one_does_not(data, tmp_path):
    draw_many_shapes(tmp_path / "again", SMALL)
    assert tree(tmp_path / "again") == tree(data)

    draw_many_shapes(tmp_path / "other", replace(SMALL, seed=1))
    texts = [
        {p["solution"] for p in read(folder / "scienceqa/problems.json").values()}
        for folder in (data, tmp_path / "other")
    ]
    assert len(texts[0] & texts[1]) < 0.01 * len(texts[0])


def test_more_questions_leave_those_before_as_they_are(data, tmp_path):
    draw_many_shapes(tmp_path / "more", replace(SMALL, val_questions=200))
    first, more = (
        [p for p in read(folder / "scienceqa/problems.json").values() if p["split"] == "val"]
        for folder in (data, tmp_path / "more")
    )
    assert [p["question"] for p in more[:100]] == [p["question"] for p in first]


def test_splits_share_no_picture(data):
    images = defaultdict(set)
    for split in ("train", "val", "test"):
        for path in (data / "scienceqa/images" / split).rglob("*.png"):
            images[split].add(path.read_bytes())
    assert not images["train"] & (images["val"] | images["test"])
    assert not images["val"] & images["test"]


def test_pictures_are_the_scenes_of_their_questions(data, problems):
    for number, problem in list(problems.items())[:50]:
        if problem["image"]:
            path = data / "scienceqa/images/train" / number / "image.png"
            objects = told(problem["solution"])
            image = Image.open(path).convert("RGB")
            colors = Counter(color for _, color in image.getcolors(4096))
            assert image.size == (64, 64)
            assert len(colors) > len(objects)


def test_the_layout_passes_verification(tmp_path):
    manifest = tmp_path / "shared/data/shapes/manifest.json"
    make_dataset(manifest, replace(SMALL, train_questions=60, test_questions=40))

    verification = verify_dataset(manifest.parent, VerificationChoices(progress=False))

    assert verification.has_passed
    assert not any(verification.findings.values())
