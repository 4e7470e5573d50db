"""Protects verification: all damage in one report, and no test item is ever left out."""

import json
import shutil
from pathlib import Path

import pytest

from ademvl.cli import main
from ademvl.config.dataset import DatasetSettings
from ademvl.errors import MAX_LISTED, DataError
from ademvl.runs.identity import data_checksums
from ademvl.tasks.coco_caption.reader import load_caption_train
from ademvl.tasks.instruction.reader import load_instructions
from ademvl.tasks.layout import make_dataset
from ademvl.tasks.scienceqa.reader import load_scienceqa
from ademvl.tasks.verification import VerificationChoices, verify_dataset
from tests.tasks import copies

QUIET = VerificationChoices(progress=False)
LENIENT = VerificationChoices(damaged="leave_out", progress=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """An existing copy of ScienceQA, to be damaged."""
    folder = tmp_path / "copy"
    copies.write_scienceqa(folder / "problems.json", folder / "images")
    return folder


def lay_out(copy: Path, **changes) -> Path:
    settings = {"source": "scienceqa", "subset": True, **changes}
    manifest = copy.parent / "shared/data/set/manifest.json"
    make_dataset(manifest, DatasetSettings(existing=str(copy), **settings))
    return manifest.parent


def change(copy: Path, question_id: str, **fields) -> None:
    problems = copies.read_json(copy / "problems.json")
    problems[question_id] |= fields
    copies.write_json(copy / "problems.json", problems)


def found(verification) -> list[tuple[str, str, str, str]]:
    return [
        (level, finding.kind, finding.split, ", ".join(finding.item_ids))
        for findings in verification.findings.values()
        for level, finding in findings
    ]


def test_good_data_passes_and_says_what_it_holds(copy):
    folder = lay_out(copy)
    verification = verify_dataset(folder, QUIET)
    assert verification.has_passed
    assert found(verification) == []
    passed = copies.read_json(folder / "verified.json")
    assert passed["counts"]["scienceqa"]["train problems"] == 4
    assert passed["left_out"] == {"scienceqa": 0}
    assert not (folder / "scienceqa/quarantine.json").exists()


def test_every_kind_of_damage_is_in_one_report(copy):
    (copy / "images/train/10/image.png").unlink()
    image = copy / "images/train/12/image.png"
    image.write_bytes(image.read_bytes()[:50])
    shutil.copy(copy / "images/val/14/image.png", copy / "images/test/16/image.png")
    change(copy, "11", answer=2)
    folder = lay_out(copy)
    verification = verify_dataset(folder, QUIET)
    assert found(verification) == [
        ("stops", "record", "train", "11"),
        ("stops", "missing_image", "train", "10"),
        ("stops", "damaged_image", "train", "12"),
        ("note", "duplicate_image", "", ""),
    ]
    report = copies.read_json(folder / "verification.json")
    assert [finding["kind"] for finding in report["findings"]] == [
        "record",
        "missing_image",
        "damaged_image",
        "duplicate_image",
    ]
    assert not report["passed"]
    assert not (folder / "verified.json").exists()
    text = verification.to_text()
    assert "question 11: answer 2 is outside its 2 choices (index from 0)" in text
    assert "12/image.png: does not decode as an image" in text
    assert "the same image in question 14 of val, question 16 of test" in text


def test_damaged_training_items_are_left_out_and_listed(copy):
    (copy / "images/train/10/image.png").unlink()
    change(copy, "11", answer=2)
    folder = lay_out(copy, damaged="leave_out")
    verification = verify_dataset(folder, QUIET)
    assert verification.has_passed
    assert {level for level, *_ in found(verification)} == {"left_out"}
    quarantine = copies.read_json(folder / "scienceqa/quarantine.json")["train"]
    assert quarantine == {"10": "missing_image", "11": "record"}
    assert copies.read_json(folder / "verified.json")["left_out"] == {"scienceqa": 2}
    dataset = load_scienceqa(folder / "scienceqa")
    assert [problem.question_id for problem in dataset.split("train")] == ["12", "13"]
    assert len(dataset.split("test")) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda copy: (copy / "images/test/16/image.png").unlink(),
        lambda copy: (copy / "images/test/16/image.png").write_bytes(b"no image"),
        lambda copy: change(copy, "16", answer=7),
        lambda copy: change(copy, "14", answer=7),
    ],
)
def test_damaged_test_items_and_malformed_val_records_always_stop(copy, damage):
    damage(copy)
    verification = verify_dataset(lay_out(copy, damaged="leave_out"), QUIET)
    assert [level for level, *_ in found(verification)] == ["stops"]


def test_val_without_an_image_does_not_stop_training(copy):
    (copy / "images/val/14/image.png").unlink()
    folder = lay_out(copy)
    assert not verify_dataset(folder, QUIET).has_passed
    verification = verify_dataset(folder, LENIENT)
    assert found(verification) == [("unused", "missing_image", "val", "14")]
    assert len(load_scienceqa(folder / "scienceqa").split("val")) == 2


def test_training_identity_does_not_depend_on_where_the_data_lies(copy):
    (copy / "images/train/10/image.png").write_bytes(b"no image")
    folder = lay_out(copy, damaged="leave_out")
    verify_dataset(folder, QUIET)
    before = data_checksums(folder / "scienceqa")
    assert "quarantine.json" in before
    moved = copy.parent / "moved"
    folder.rename(moved)
    verify_dataset(moved, QUIET)
    assert data_checksums(moved / "scienceqa") == before


def test_repaired_data_is_trained_on_again(copy):
    image = copy / "images/train/10/image.png"
    content = image.read_bytes()
    image.unlink()
    folder = lay_out(copy, damaged="leave_out")
    verify_dataset(folder, QUIET)
    image.write_bytes(content)
    assert found(verify_dataset(folder, QUIET)) == []
    assert len(load_scienceqa(folder / "scienceqa").split("train")) == 4


def test_quarantine_cannot_name_test_items(copy):
    root = lay_out(copy) / "scienceqa"
    copies.write_json(root / "quarantine.json", {"train": {"16": "by hand"}})
    with pytest.raises(DataError, match="not of the train split") as caught:
        load_scienceqa(root)
    assert "item 16" in str(caught.value)


def test_published_sizes_are_compared_unless_it_is_a_subset(copy):
    verification = verify_dataset(lay_out(copy, subset=False), QUIET)
    texts = [finding.text for _, finding in verification.of_level("stops")]
    assert "train problems: 4, expected 12726 (`subset: true` where that is meant)" in texts
    assert "test images: 1, expected 2017 (`subset: true` where that is meant)" in texts
    assert len(texts) == 5


def test_files_that_changed_since_are_named(copy):
    folder = lay_out(copy)
    change(copy, "10", hint="new")
    verification = verify_dataset(folder, QUIET)
    assert found(verification) == [("stops", "checksum", "", "")]


def test_quick_mode_decodes_a_fixed_sample_and_looks_for_all(copy):
    (copy / "images/train/12/image.png").unlink()
    folder = lay_out(copy)
    quick = VerificationChoices(quick=2, progress=False)
    first, second = verify_dataset(folder, quick), verify_dataset(folder, quick)
    assert first.num_decoded == 2
    assert first == second
    assert found(first) == [("stops", "missing_image", "train", "12")]


def test_sample_gives_no_seal_and_keeps_the_quarantine(copy):
    (copy / "images/train/12/image.png").write_bytes(b"no image")
    folder = lay_out(copy, damaged="leave_out")
    quarantine = folder / "scienceqa/quarantine.json"
    quick = VerificationChoices(quick=1, progress=False)
    assert verify_dataset(folder, quick).has_passed
    assert not (folder / "verified.json").exists()
    assert not quarantine.exists()
    verify_dataset(folder, QUIET)
    whole = quarantine.read_bytes(), (folder / "verified.json").read_bytes()
    verify_dataset(folder, quick)
    assert (quarantine.read_bytes(), (folder / "verified.json").read_bytes()) == whole
    (copy / "images/test/16/image.png").unlink()
    assert not verify_dataset(folder, quick).has_passed
    assert not (folder / "verified.json").exists()


def test_number_of_threads_changes_nothing(copy):
    (copy / "images/train/12/image.png").write_bytes(b"no image")
    folder = lay_out(copy)
    one, four = (VerificationChoices(threads=n, progress=False) for n in (1, 4))
    assert verify_dataset(folder, one) == verify_dataset(folder, four)


def pack(folder: Path) -> None:
    """Put a folder's content into an archive of its name, beside it."""
    shutil.make_archive(str(folder), "zip", folder.parent, folder.name)
    shutil.rmtree(folder)


def test_packed_images_are_verified_as_unpacked_ones(copy):
    image = copy / "images/train/12/image.png"
    image.write_bytes(image.read_bytes()[:50])
    shutil.copy(copy / "images/val/14/image.png", copy / "images/test/16/image.png")
    (copy / "images/train/10/image.png").unlink()
    unpacked = verify_dataset(lay_out(copy), QUIET)
    for split in ("train", "val", "test"):
        pack(copy / "images" / split)
    packed = verify_dataset(lay_out(copy), QUIET)
    assert packed == unpacked
    assert len(found(packed)) == 3


def test_packed_coco_images_are_counted(tmp_path):
    copy = tmp_path / "copy"
    folder = lay_out_captions(copy)
    pack(copy / "train2014")
    folder = lay_out(copy, source="coco_caption")
    verification = verify_dataset(folder, QUIET)
    assert verification.has_passed
    assert verification.counts["coco_caption"]["files in train2014"] == 3
    assert verification.counts["coco_caption"]["files in val2014"] == 4


def lay_out_captions(copy: Path, **settings) -> Path:
    copies.write_coco_images(copy)
    copies.write_blip_splits(copy, with_references=True)
    return lay_out(copy, source="coco_caption", **settings)


def test_damaged_caption_rows_and_images_are_left_out(tmp_path):
    copy = tmp_path / "copy"
    folder = lay_out_captions(copy, damaged="leave_out")
    rows = copies.read_json(copy / "coco_karpathy_train.json")
    rows[1]["caption"] = ""
    copies.write_json(copy / "coco_karpathy_train.json", rows)
    (copy / copies.coco_name(4, "val2014")).write_bytes(b"no image")
    folder = lay_out(copy, source="coco_caption", damaged="leave_out")
    verification = verify_dataset(folder, QUIET)
    assert found(verification) == [
        ("left_out", "record", "train", "row 1"),
        ("left_out", "damaged_image", "train", "4-0"),
    ]
    examples = load_caption_train(folder / "coco_caption")
    assert [item.image_id for item in examples] == [1, 3, 5]


def test_val_of_official_splits_counts_as_the_test_split(tmp_path, real_dir):
    copy = tmp_path / "copy"
    shutil.copytree(real_dir / "coco_photos", copy)
    image = min((copy / "val2017").iterdir())
    image.write_bytes(b"no image")
    settings = {"source": "coco_caption", "caption_splits": "official", "damaged": "leave_out"}
    verification = verify_dataset(lay_out(copy, **settings), QUIET)
    assert found(verification) == [("stops", "damaged_image", "val", str(int(image.stem)))]


def test_damaged_instructions_are_left_out(tmp_path):
    copy = tmp_path / "copy"
    rows = [*copies.instruction_rows(), {"qid": "bad", "instruction": "no prompt"}]
    copies.write_json(copy / "all_data.json", {"all": rows})
    folder = lay_out(copy, source="lavin_instruct", damaged="leave_out")
    verification = verify_dataset(folder, QUIET)
    assert found(verification) == [
        ("left_out", "record", "train", "bad"),
        ("left_out", "missing_image", "train", "gpt4_0"),
    ]
    assert [item.item_id for item in load_instructions(folder / "instruction")] == ["alpaca_0"]


def test_damage_in_mme_always_stops(tmp_path):
    copy = tmp_path / "copy"
    copies.write_mme(copy)
    (copy / "existence/0.txt").write_text("Is it red? Yes\n", encoding="utf-8")
    verification = verify_dataset(lay_out(copy, source="mme", damaged="leave_out"), QUIET)
    assert {level for level, kind, *_ in found(verification) if kind == "record"} == {"stops"}


def test_unreadable_file_is_a_finding(copy):
    folder = lay_out(copy)
    (folder / "scienceqa/pid_splits.json").unlink()
    kinds = [kind for _, kind, *_ in found(verify_dataset(folder, QUIET))]
    assert kinds == ["file", "file"]


def test_real_subset_lacks_exactly_the_images_of_train_and_val(tmp_path, real_dir):
    shared = tmp_path / "shared"
    settings = DatasetSettings(
        source="scienceqa", existing=str(real_dir / "scienceqa_subset"), subset=True
    )
    make_dataset(shared / "data/set/manifest.json", settings)
    verification = verify_dataset(shared / "data/set", QUIET)
    problems = copies.read_json(real_dir / "scienceqa_subset/problems.json")
    expected = {
        ("stops", "missing_image", row["split"], key)
        for key, row in problems.items()
        if row["image"] and row["split"] != "test"
    }
    assert len(expected) == 190
    assert len(found(verification)) == 190
    assert set(found(verification)) == expected
    text = verification.to_text()
    assert "(190 found)" in text
    assert text.count("is missing") == MAX_LISTED


def test_command_reports_and_sets_the_exit_code(copy, capsys):
    folder = lay_out(copy)
    assert main(["data", "verify", str(folder), "--threads", "1"]) == 0
    assert f"{folder}: verified" in capsys.readouterr().out
    (copy / "images/train/10/image.png").unlink()
    assert main(["data", "verify", str(folder / "manifest.json"), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)[str(folder)]
    assert report["num_findings"] == {"missing_image": 1}
    assert main(["data", "verify", str(folder), "--damaged", "leave_out"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name either the folder of a data set or --study FILE"),
        (["nowhere"], "nowhere/manifest.json: cannot be read"),
    ],
)
def test_wrong_call_is_a_users_error(capsys, arguments, said):
    assert main(["data", "verify", *arguments]) == 2
    assert said in capsys.readouterr().err
