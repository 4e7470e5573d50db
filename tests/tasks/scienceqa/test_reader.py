"""Protects the strict reading of ScienceQA: good folders load, every kind of damage is listed."""

import json
from pathlib import Path

import pytest

from ademvl.errors import MAX_LISTED, DataError
from ademvl.storage import known_checksums
from ademvl.tasks.scienceqa.reader import SPLITS, check_images, load_problems, load_scienceqa
from tests import tiny
from tests.tasks.copies import OTHER_FIELDS

FIELDS = {
    **OTHER_FIELDS,
    "question": "Which?",
    "choices": ["a", "b"],
    "answer": 1,
    "image": None,
    "split": "train",
}


def write_dataset(root: Path, problems: dict, splits: dict | None = None) -> Path:
    if splits is None:
        splits = {
            name: [key for key, raw in problems.items() if raw.get("split") == name]
            for name in SPLITS
        }
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(splits))
    return root


def three_problems(**changes) -> dict:
    problems = {
        str(number): {**FIELDS, "split": name} for number, name in enumerate(SPLITS, start=1)
    }
    problems["2"] |= changes
    return problems


def test_problem_is_read_field_by_field(tmp_path):
    write_dataset(tmp_path, three_problems(image="image.png", hint="h", answer=0))
    (tmp_path / "captions.json").write_text(json.dumps({"captions": {"2": "a cat"}}))

    dataset = load_scienceqa(tmp_path)

    problem = dataset.problems["2"]
    assert (problem.choices, problem.answer_index, problem.caption) == (("a", "b"), 0, "a cat")
    assert problem.has_image
    assert problem.has_text_context
    assert dataset.image_path(problem) == tmp_path / "images/val/2/image.png"
    assert not dataset.problems["1"].has_image
    assert dataset.image_path(dataset.problems["1"]) is None
    assert dataset.problems["1"].caption == ""


def test_split_keeps_the_order_of_the_split_file(tmp_path):
    problems = {str(number): FIELDS for number in range(4)}
    write_dataset(tmp_path, problems, {"train": ["3", "0", "2", "1"], "val": [], "test": []})
    names = [problem.question_id for problem in load_scienceqa(tmp_path).split("train")]
    assert names == ["3", "0", "2", "1"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer": 2}, "question 2: answer 2 is outside its 2 choices"),
        ({"answer": -1}, "question 2: answer -1 is outside its 2 choices"),
        ({"answer": True}, "question 2: answer is True"),
        ({"answer": "1"}, "question 2: answer is '1'"),
        ({"choices": []}, "question 2: 0 choices"),
        ({"choices": ["a", 3]}, "question 2: choices are ['a', 3]"),
        ({"hint": None}, "question 2: field 'hint' is None"),
        ({"image": "../../x.png"}, "question 2: image is '../../x.png'"),
        ({"subject": "magic"}, "question 2: subject is 'magic'"),
        ({"grade": "3"}, "question 2: grade is '3'"),
        ({"split": "dev"}, "question 2: split is 'dev'"),
    ],
)
def test_wrong_field_is_named(tmp_path, changes, said):
    problems = three_problems(**changes)
    write_dataset(tmp_path, problems, {"train": ["1"], "val": ["2"], "test": ["3"]})
    with pytest.raises(DataError) as caught:
        load_scienceqa(tmp_path)
    assert f"{tmp_path / 'problems.json'}: {said}" in str(caught.value)
    assert "(1 found)" in str(caught.value)


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"train": ["1"], "val": ["2"]}, "split 'test' is missing"),
        ({"train": ["1", "1"], "val": ["2"], "test": ["3"]}, "question 1: twice in split 'train'"),
        (
            {"train": ["1", "9"], "val": ["2"], "test": ["3"]},
            "question 9: in split 'train' but not in problems.json",
        ),
        ({"train": ["1"], "val": ["2"], "test": []}, "question 3: of problems.json, in none of"),
        (
            {"train": ["1"], "val": ["2"], "test": ["3"], "minitest": ["8"]},
            "question 8: in split 'minitest' but not in problems.json",
        ),
        ({"train": ["1"], "val": ["2"], "test": [3]}, "split 'test': expected a list"),
    ],
)
def test_wrong_split_is_named(tmp_path, splits, said):
    write_dataset(tmp_path, three_problems(), splits)
    with pytest.raises(DataError) as caught:
        load_scienceqa(tmp_path)
    assert f"{tmp_path / 'pid_splits.json'}: {said}" in str(caught.value)


def test_id_in_two_splits_is_named_with_both(tmp_path):
    write_dataset(tmp_path, three_problems(), {"train": ["1"], "val": ["2", "1"], "test": ["3"]})
    with pytest.raises(DataError, match="question 1: in split 'train' and in 'val'"):
        load_scienceqa(tmp_path)


def test_duplicate_id_in_the_problem_file_is_refused(tmp_path):
    write_dataset(tmp_path, three_problems())
    entry = json.dumps(FIELDS)
    (tmp_path / "problems.json").write_text(f'{{"7": {entry}, "7": {entry}}}')
    with pytest.raises(DataError, match=r"problems\.json: key '7' occurs twice"):
        load_scienceqa(tmp_path)


@pytest.mark.parametrize("missing", sorted(FIELDS))
def test_missing_field_is_named(tmp_path, missing):
    problems = three_problems()
    del problems["2"][missing]
    write_dataset(tmp_path, problems, {"train": ["1"], "val": ["2"], "test": ["3"]})
    with pytest.raises(DataError, match=rf"question 2: field '{missing}' is missing"):
        load_scienceqa(tmp_path)


def test_all_findings_are_counted_and_the_first_twenty_listed(tmp_path):
    problems = {str(number): {**FIELDS, "answer": 5} for number in range(MAX_LISTED + 5)}
    write_dataset(tmp_path, problems)
    with pytest.raises(DataError) as caught:
        load_scienceqa(tmp_path)
    message = str(caught.value)
    assert f"({MAX_LISTED + 5} found)" in message
    assert message.count("outside its 2 choices") == MAX_LISTED
    assert "and 5 more" in message
    assert "make them again" in message


@pytest.mark.parametrize("name", ["problems.json", "pid_splits.json", "captions.json"])
@pytest.mark.parametrize("text", ["[1, 2]", '{"1": ', '"x"'])
def test_broken_file_is_named(tmp_path, name, text):
    write_dataset(tmp_path, three_problems())
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=name):
        load_scienceqa(tmp_path)


def test_caption_of_an_unknown_question_is_named(tmp_path):
    write_dataset(tmp_path, three_problems())
    (tmp_path / "captions.json").write_text(json.dumps({"captions": {"77": "x", "1": 3}}))
    with pytest.raises(DataError) as caught:
        load_scienceqa(tmp_path)
    assert "question 77: not in problems.json" in str(caught.value)
    assert "question 1: caption is 3" in str(caught.value)


def test_missing_and_empty_images_are_listed_for_the_asked_splits_only(tmp_path):
    problems = {str(number): {**FIELDS, "image": "image.png"} for number in range(3)}
    problems["9"] = {**FIELDS, "image": "image.png", "split": "test"}
    dataset = load_scienceqa(write_dataset(tmp_path, problems))
    for number, content in ((0, b"x"), (1, b"")):
        folder = tmp_path / "images" / "train" / str(number)
        folder.mkdir(parents=True)
        (folder / "image.png").write_bytes(content)

    check_images(dataset, ["val"])
    with pytest.raises(DataError) as caught:
        check_images(dataset, ["train"])

    message = str(caught.value)
    assert "image of question 1 is an empty file" in message
    assert f"{tmp_path / 'images/train/2/image.png'}: image of question 2 is missing" in message
    assert "(2 found)" in message


def test_real_subset_loads_and_has_all_test_images(real_dir):
    dataset = load_scienceqa(real_dir / "scienceqa_subset")
    assert {name: len(dataset.split(name)) for name in SPLITS} == {
        "train": 400,
        "val": 100,
        "test": 361,
    }
    check_images(dataset, ["test"])
    with pytest.raises(DataError, match="190 found"):
        check_images(dataset, SPLITS)


def test_context_flags_reproduce_the_golden_category_scores(golden_dir, tmp_path):
    problems = json.loads((golden_dir / "J_problems.json").read_text(encoding="utf-8"))
    scoring = json.loads((golden_dir / "J_scoring.json").read_text(encoding="utf-8"))
    test = load_scienceqa(write_dataset(tmp_path, problems)).split("test")
    groups = {
        "acc_has_text": [p for p in test if p.has_text_context],
        "acc_has_image": [p for p in test if p.has_image],
        "acc_no_context": [p for p in test if not p.has_image and not p.has_text_context],
        "acc_average": test,
    }
    for name, members in groups.items():
        right = sum(scoring["predicted_index"][p.question_id] == p.answer_index for p in members)
        assert f"{100 * right / len(members):.2f}" == scoring["scores"][name]


@pytest.mark.parametrize("target", ["gone.json", "pid_splits.json"])
def test_link_to_nowhere_is_told_and_not_taken_for_a_file_left_out(
    tmp_path: Path, target: str
) -> None:
    root = tiny.make_scienceqa(tmp_path / "data")
    (root / "pid_splits.json").unlink()
    (root / "pid_splits.json").symlink_to(target)
    with pytest.raises(DataError, match=r"pid_splits\.json: cannot be read"):
        load_problems(root / "problems.json", split="test")


@pytest.mark.parametrize("name", ["problems.json", "pid_splits.json", "captions.json"])
def test_data_read_before_is_given_again_until_one_of_its_files_changes(
    tmp_path, monkeypatch, name
):
    monkeypatch.setattr(known_checksums, "_SETTLED_NS", 0)
    write_dataset(tmp_path, three_problems())
    (tmp_path / "captions.json").write_text(json.dumps({"captions": {"2": "a cat"}}))
    first = load_scienceqa(tmp_path)
    assert load_scienceqa(tmp_path) is first

    changed = {
        "problems.json": three_problems(hint="another hint"),
        "pid_splits.json": {"train": ["1"], "val": ["2"], "test": ["3"], "minival": ["2"]},
        "captions.json": {"captions": {"2": "a dog instead"}},
    }
    (tmp_path / name).write_text(json.dumps(changed[name]))

    again = load_scienceqa(tmp_path)
    assert (again.problems["2"] != first.problems["2"]) or again.splits != first.splits
    (tmp_path / "captions.json").unlink()
    assert load_scienceqa(tmp_path).problems["2"].caption == ""


def test_data_that_has_just_changed_is_always_read_anew(tmp_path):
    write_dataset(tmp_path, three_problems())

    assert load_scienceqa(tmp_path) is not load_scienceqa(tmp_path)
