"""Protects A-OKVQA's layout: published files or their archive, COCO's images of either year."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from ademvl.config.dataset import DatasetSettings
from ademvl.errors import DataError
from ademvl.tasks.aokvqa.reader import load_questions
from ademvl.tasks.layout import make_dataset
from ademvl.tasks.verification import VerificationChoices, verify_dataset
from tests import tiny


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tiny.make_aokvqa(tmp_path / "copy")


def lay_out(shared: Path, copy: Path, **settings: str) -> Path:
    manifest = shared / "data" / "aokvqa" / "manifest.json"
    make_dataset(manifest, DatasetSettings(source="aokvqa", existing=str(copy), **settings))
    return manifest.parent


def test_questions_come_with_choices_and_their_images(tmp_path: Path, copy: Path) -> None:
    data = lay_out(tmp_path, copy)
    questions = load_questions(data / "aokvqa", "val")
    assert [item.question_id for item in questions] == ["val-0", "val-1", "val-2", "val-3"]
    assert [item.answer_index for item in questions] == [0, 1, 2, 3]
    assert questions[1].image.resolve() == (copy / "coco/val2017/000000000101.jpg").resolve()
    counts = json.loads((data / "manifest.json").read_text())["counts"]
    assert counts == {"train questions": 8, "val questions": 4}


def test_the_archive_is_read_as_it_was_downloaded(tmp_path: Path, copy: Path) -> None:
    with tarfile.open(copy / "aokvqa_v1p0.tar.gz", "w:gz") as archive:
        for file in sorted(copy.glob("*.json")):
            archive.add(file, arcname=f"./{file.name}")
            file.unlink()
    data = lay_out(tmp_path, copy)
    assert len(load_questions(data / "aokvqa", "train")) == 8


def test_a_cut_archive_is_refused(tmp_path: Path, copy: Path) -> None:
    for file in copy.glob("*.json"):
        file.unlink()
    (copy / "aokvqa_v1p0.tar.gz").write_bytes(b"\x1f\x8b\x08cut")
    with pytest.raises(DataError, match="no whole archive"):
        lay_out(tmp_path, copy)


def test_images_of_2014_are_found_by_their_numbers(tmp_path: Path, copy: Path) -> None:
    coco = tmp_path / "coco"
    for split in ("train", "val"):
        (coco / f"{split}2014").mkdir(parents=True)
        for image in sorted((copy / "coco" / f"{split}2017").iterdir()):
            # COCO's val images of 2017 are of both splits of 2014
            image.rename(coco / "train2014" / f"COCO_train2014_{image.name}")
    (coco / "val2014/COCO_val2014_000000999999.jpg").write_bytes(b"")
    shutil.rmtree(copy / "coco")
    data = lay_out(tmp_path, copy, coco=str(coco))
    (first, *_) = load_questions(data / "aokvqa", "val")
    assert first.image.name == "COCO_train2014_000000000100.jpg"
    assert first.image.is_file()


def test_without_images_or_questions_it_says_what_it_looked_for(tmp_path: Path, copy: Path) -> None:
    shutil.rmtree(copy / "coco")
    with pytest.raises(DataError, match="COCO captions not found there"):
        lay_out(tmp_path, copy)
    for file in copy.glob("*.json"):
        file.unlink()
    with pytest.raises(DataError, match=r"A-OKVQA not found there(.|\n)*aokvqa_v1p0\.tar\.gz"):
        lay_out(tmp_path / "other", copy)


def test_bad_questions_are_listed_and_verification_goes_on(tmp_path: Path, copy: Path) -> None:
    path = copy / "aokvqa_v1p0_val.json"
    rows = json.loads(path.read_text())
    rows[0]["choices"] = ["a", "b"]
    rows[1]["correct_choice_idx"] = 4
    rows[2]["image_id"] = "7"
    rows[3]["question"] = " "
    path.write_text(json.dumps(rows))
    data = lay_out(tmp_path, copy)
    with pytest.raises(DataError) as refused:
        load_questions(data / "aokvqa", "val")
    for text in ("expected 4 texts", "expected 0 to 3", "expected a number", "expected text"):
        assert text in str(refused.value)
    found = verify_dataset(data, VerificationChoices(progress=False))
    told = [finding.text for _, finding in found.findings["aokvqa"]]
    assert sum("question val-" in text for text in told) == 4


def test_a_missing_image_is_refused_where_it_is_looked_at(tmp_path: Path, copy: Path) -> None:
    data = lay_out(tmp_path, copy)
    (copy / "coco/val2017/000000000100.jpg").unlink()
    assert len(load_questions(data / "aokvqa", "val", look_at_images=False)) == 4
    with pytest.raises(DataError, match="question val-0"):
        load_questions(data / "aokvqa", "val")


def test_answers_of_test_are_not_public(tmp_path: Path, copy: Path) -> None:
    data = lay_out(tmp_path, copy)
    with pytest.raises(DataError, match="right choices of test are not public"):
        load_questions(data / "aokvqa", "test")
