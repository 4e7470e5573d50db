"""Protects the strict reading of COCO captions and the cleaning of caption text."""

import json
from pathlib import Path

import pytest

from ademvl.errors import DataError
from ademvl.tasks.coco_caption.reader import (
    extract_caption,
    load_caption_images,
    load_caption_train,
    load_coco_references,
    normalize_caption,
)


def write_coco(root: Path, *, train=None, test=None, references=None, images=("a_1.jpg",)) -> Path:
    (root / "images" / "train").mkdir(parents=True)
    (root / "karpathy").mkdir()
    for name in images:
        (root / "images" / "train" / name).write_bytes(b"x")
    contents = {"train": train, "test": test, "test_gt": references}
    for name, content in contents.items():
        if content is not None:
            path = root / "karpathy" / f"coco_karpathy_{name}.json"
            path.write_text(json.dumps(content))
    return root


def coco_form(captions: dict[int, list[str]]) -> dict:
    texts = [(image_id, text) for image_id, group in captions.items() for text in group]
    return {
        "images": [{"id": image_id} for image_id in captions],
        "annotations": [
            {"id": number, "image_id": image_id, "caption": text}
            for number, (image_id, text) in enumerate(texts)
        ],
    }


def test_training_captions_keep_file_order_and_get_unique_ids(tmp_path):
    rows = [
        {"image": "train/a_1.jpg", "caption": "x", "image_id": "coco_1"},
        {"image": "train/a_1.jpg", "caption": "y", "image_id": 1},
        {"image": "train/a_1.jpg", "caption": "x"},
    ]
    examples = load_caption_train(write_coco(tmp_path, train=rows))
    assert [(e.item_id, e.image_id, e.caption) for e in examples] == [
        ("1-0", 1, "x"),
        ("1-1", 1, "y"),
        ("1-2", 1, "x"),
    ]
    assert examples[0].image == tmp_path / "images/train/a_1.jpg"


def test_bad_training_rows_are_all_listed(tmp_path):
    rows = [
        {"image": "train/a_1.jpg", "caption": " "},
        {"image": "train/gone_2.jpg", "caption": "x"},
        {"image": "../a_1.jpg", "caption": "x"},
        {"image": "train/nonumber.jpg", "caption": "x"},
        {"caption": "x"},
        "text",
    ]
    with pytest.raises(DataError) as caught:
        load_caption_train(write_coco(tmp_path, train=rows))
    message = str(caught.value)
    for said in (
        "row 0: caption is ' '",
        "gone_2.jpg: image of id 2 is missing",
        "row 2: image '../a_1.jpg' leaves",
        "row 3: image id 'nonumber' holds no number",
        "row 4: image is None",
        "row 5: image is None",
    ):
        assert said in message


def test_evaluation_images_carry_the_references_of_their_id(tmp_path):
    rows = [
        {"image": "train/COCO_val2014_000000000007.jpg", "caption": ["p"]},
        {"image": "train/a_1.jpg", "caption": ["x", "y"]},
    ]
    references = coco_form({1: ["x", "y"], 7: ["p"]})
    names = ("a_1.jpg", "COCO_val2014_000000000007.jpg")
    root = write_coco(tmp_path, test=rows, references=references, images=names)
    images = load_caption_images(root, "test")
    assert [(i.image_id, i.references) for i in images] == [(7, ("p",)), (1, ("x", "y"))]


def test_images_and_references_must_name_the_same_ids(tmp_path):
    rows = [{"image": "train/a_1.jpg"}, {"image": "train/a_1.jpg"}, {"image": "train/b_2.jpg"}]
    root = write_coco(tmp_path, test=rows, references=coco_form({1: ["x"], 5: ["z"]}))
    with pytest.raises(DataError) as caught:
        load_caption_images(root, "test")
    message = str(caught.value)
    assert "row 1: image id 1 occurs twice" in message
    assert "image id 2: no captions in coco_karpathy_test_gt.json" in message
    assert "image id 5: not in coco_karpathy_test.json" in message


def test_annotations_that_break_the_form_are_all_listed(tmp_path):
    content = coco_form({1: ["x"], 2: [], 3: ["y"]})
    content["images"].append({"id": 1})
    content["annotations"] += [
        {"id": 0, "image_id": 3, "caption": "z"},
        {"id": 8, "image_id": 44, "caption": "z"},
        {"id": 9, "image_id": 3, "caption": ""},
        {"image_id": 3, "caption": "z"},
    ]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        load_coco_references(path)
    message = str(caught.value)
    for said in (
        "images[3]: id 1 occurs twice",
        "annotations[2]: id 0 occurs twice",
        "annotation 8: image id 44 is not among the images",
        "annotation 9: caption is ''",
        "annotations[5]: id is None",
        "image id 2: no captions",
    ):
        assert said in message


def test_real_coco_files_load_whole(real_dir):
    karpathy = load_coco_references(real_dir / "coco_captions" / "karpathy_test_gt.json")
    official = load_coco_references(real_dir / "coco_captions" / "captions_val2017.json")
    assert (len(karpathy), sum(map(len, karpathy.values()))) == (5000, 25010)
    assert (len(official), sum(map(len, official.values()))) == (5000, 25014)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A dog, a CAT.", "a dog, a cat"),
        ("one.two;three", "one two three"),
        ("  a   b\n", "a b"),
        ("...", ""),
        ("a b c d e", "a b c d"),
    ],
)
def test_caption_is_cleaned(text, cleaned):
    assert normalize_caption(text, max_words=4) == cleaned


def test_cleaning_twice_changes_nothing():
    text = 'The "Big" (red)  bus: #1 ~ on a street!'
    once = normalize_caption(text, max_words=30)
    assert normalize_caption(once, max_words=30) == once


def test_caption_is_what_follows_the_first_picture_of():
    assert extract_caption("a picture of a dog\nmore") == "a dog"
    assert extract_caption("a dog") == "a dog"
    assert extract_caption("a picture of ") == "a picture of "
