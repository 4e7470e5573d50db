"""Protects what tells whether two runs were asked the same: texts, answers and images, no more."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ademvl.config.run import FeatureSettings, RunSettings
from ademvl.errors import DataError
from ademvl.evaluation.asked import asked_now, asked_of, other_parts
from tests.tiny import make_mme, make_scienceqa


def change_problem(split: str, **changes: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "problems.json"
        problems = json.loads(path.read_text())
        problem = next(p for p in problems.values() if p["split"] == split)
        problem.update(changes)
        path.write_text(json.dumps(problems))

    return change


def swap_images(split: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        first, second, *_ = sorted((root / "images" / split).glob("*/*.png"))
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)

    return change


def flip_answer(root: Path) -> None:
    path = root / "problems.json"
    problems = json.loads(path.read_text())
    problem = next(p for p in problems.values() if p["split"] == "test")
    problem["answer"] = 1 - problem["answer"]
    path.write_text(json.dumps(problems))


def drop_last_question(root: Path) -> None:
    path = root / "pid_splits.json"
    splits = json.loads(path.read_text())
    dropped = splits["test"].pop()
    path.write_text(json.dumps(splits))
    problems = json.loads((root / "problems.json").read_text())
    del problems[dropped]
    (root / "problems.json").write_text(json.dumps(problems))


def reorder(root: Path) -> None:
    path = root / "pid_splits.json"
    splits = json.loads(path.read_text())
    splits["test"].reverse()
    path.write_text(json.dumps(splits))


def write_otherwise(root: Path) -> None:
    path = root / "problems.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3, sort_keys=True))


@pytest.fixture
def run(tmp_path: Path) -> RunSettings:
    root = make_scienceqa(tmp_path / "scienceqa")
    features = FeatureSettings(mode="online")
    return RunSettings(
        study="s", name="r", seed=0, task="scienceqa", data_dir=str(root), features=features
    )


CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a question": (change_problem("test", question="Another?"), {"texts"}),
    "a hint": (change_problem("test", hint="Another hint."), {"texts"}),
    "a choice": (change_problem("test", choices=["red", "yellow"]), {"texts"}),
    "a grade, which columns depend on": (change_problem("test", grade="grade9"), {"texts"}),
    "an answer": (flip_answer, {"answers"}),
    "the bytes of images": (swap_images("test"), {"images"}),
    "one question less": (drop_last_question, {"texts", "answers"}),
    "another order": (reorder, {"texts", "answers", "images"}),
    "a question of another split": (change_problem("train", question="Another?"), set()),
    "images of another split": (swap_images("train"), set()),
    "the same in another layout of the file": (write_otherwise, set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_part_is_known_by_its_own_checksum(run: RunSettings, name: str) -> None:
    change, expected = CHANGES[name]
    before = asked_of(run).data
    change(Path(run.data_dir))
    assert set(other_parts(before, asked_of(run).data)) == expected


@pytest.mark.parametrize("change", [swap_images("test")])
def test_run_without_images_does_not_depend_on_them(
    run: RunSettings, change: Callable[[Path], None]
) -> None:
    control = replace(run, images="withheld")
    before = asked_of(control).data
    change(Path(run.data_dir))
    assert asked_of(control).data == before
    assert other_parts(before, asked_of(run).data) == []


def test_data_elsewhere_is_the_same_data(run: RunSettings, tmp_path: Path) -> None:
    before = asked_of(run).data
    moved = Path(run.data_dir).rename(tmp_path / "elsewhere")
    assert asked_of(replace(run, data_dir=str(moved))).data == before


def test_missing_images_leave_texts_and_answers_to_be_compared(run: RunSettings) -> None:
    before = asked_of(run).data
    next(Path(run.data_dir).glob("images/test/*/*.png")).unlink()
    with pytest.raises(DataError, match="image"):
        asked_of(run)
    present = asked_now(run)
    assert present is not None
    assert {**present.data, "images": before["images"]} == before


def test_missing_data_set_is_not_known(run: RunSettings, tmp_path: Path) -> None:
    assert asked_now(replace(run, data_dir=str(tmp_path / "nothing"))) is None


def test_answers_of_the_benchmark_are_part_of_what_is_asked(tmp_path: Path) -> None:
    root = make_mme(tmp_path / "mme")
    run = RunSettings(
        study="s",
        name="r",
        seed=0,
        task="instruction",
        data_dir="",
        evaluation_data_dir=str(root),
        features=FeatureSettings(mode="online"),
    )
    before = asked_of(run).data
    (text, *_) = root.glob("color/*.txt")
    text.write_text(text.read_text().replace("Yes", "No"))
    assert other_parts(before, asked_of(run).data) == ["answers"]
