"""Protects that half of a character is found by verification, with the item that holds it."""

import json

import pytest

from ademvl.cli import main
from ademvl.data.surrogates import escape_surrogates, surrogate_findings
from ademvl.errors import DataError
from ademvl.storage.files import dump_json, parse_json
from ademvl.tasks.coco_caption.reader import load_caption_train
from ademvl.tasks.instruction.reader import load_instructions
from ademvl.tasks.scienceqa.reader import load_scienceqa
from ademvl.tasks.verification import VerificationChoices, verify_dataset
from tests.tasks import copies
from tests.tasks.copies import lay_out

HALF = "Is it red? \ud83d"
QUIET = VerificationChoices(progress=False)
WHOLE = "Is it red? \N{GRINNING FACE}"


def write(path, content):
    """As programs write it that escape what is not ASCII."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def scienceqa(tmp_path, text=WHOLE, **fields):
    copy = tmp_path / "copy"
    copies.write_scienceqa(copy / "problems.json", copy / "images")
    problems = copies.read_json(copy / "problems.json")
    problems["11"] |= {"hint": text, **fields}
    write(copy / "problems.json", problems)
    return lay_out(tmp_path / "shared", source="scienceqa", existing=str(copy))


@pytest.mark.parametrize("field", ["question", "hint", "lecture", "solution", "skill", "topic"])
def test_problems_are_named(tmp_path, field):
    root = scienceqa(tmp_path, **{field: HALF})
    message = rf"question 11: {field} holds half of a character \('\\ud83d'\)"
    with pytest.raises(DataError, match=message):
        load_scienceqa(root)
    verification = verify_dataset(root.parent, QUIET)
    assert not verification.has_passed
    assert "question 11" in verification.to_text()


def test_choices_captions_and_ids_are_named(tmp_path):
    root = scienceqa(tmp_path, choices=["a", HALF])
    with pytest.raises(DataError, match="question 11: a choice holds half of a character"):
        load_scienceqa(root)
    root = scienceqa(tmp_path / "captions")
    write(root / "captions.json", {"captions": {"11": HALF}})
    with pytest.raises(DataError, match="question 11: caption holds half of a character"):
        load_scienceqa(root)
    root = scienceqa(tmp_path / "ids")
    problems, splits = (copies.read_json(root / f"{n}.json") for n in ("problems", "pid_splits"))
    problems["\udc00"] = problems.pop("11")
    splits["train"] = ["\udc00" if key == "11" else key for key in splits["train"]]
    for name, content in (("problems", problems), ("pid_splits", splits)):
        (root / f"{name}.json").unlink()
        write(root / f"{name}.json", content)
    text = verify_dataset(root.parent, QUIET).to_text()
    assert r"question \udc00: id holds half of a character" in text
    text.encode("utf-8")


def test_damaged_training_items_are_left_out(tmp_path):
    root = scienceqa(tmp_path, question=HALF)
    verification = verify_dataset(
        root.parent, VerificationChoices(progress=False, damaged="leave_out")
    )
    assert verification.has_passed
    assert "11" not in load_scienceqa(root).problems


def test_whole_characters_pass(tmp_path):
    root = scienceqa(tmp_path, WHOLE)
    assert verify_dataset(root.parent, QUIET).has_passed
    assert load_scienceqa(root).problems["11"].hint == WHOLE


def test_the_command_prints_what_it_found(tmp_path, capsys):
    root = scienceqa(tmp_path, question=HALF)
    assert main(["data", "verify", str(root.parent), "--threads", "1"]) == 1
    assert "question 11: question holds half of a character" in capsys.readouterr().out


def test_captions_are_named(tmp_path):
    copy = tmp_path / "copy"
    copies.write_coco_images(copy)
    copies.write_blip_splits(copy, with_references=True)
    rows = copies.read_json(copy / "coco_karpathy_train.json")
    rows[1]["caption"] = HALF
    write(copy / "coco_karpathy_train.json", rows)
    references = copies.read_json(copy / "coco_karpathy_val_gt.json")
    references["annotations"][0]["caption"] = HALF
    root = lay_out(tmp_path / "shared", source="coco_caption", existing=str(copy))
    with pytest.raises(DataError, match="row 1: caption holds half of a character"):
        load_caption_train(root)
    assert "row 1: caption holds" in verify_dataset(root.parent, QUIET).to_text()
    (root / "karpathy/coco_karpathy_val_gt.json").unlink()
    write(root / "karpathy/coco_karpathy_val_gt.json", references)
    assert "annotation 0: caption holds half" in verify_dataset(root.parent, QUIET).to_text()


@pytest.mark.parametrize("field", ["answer", "instruction"])
def test_instructions_are_named(tmp_path, field):
    copy = tmp_path / "copy"
    rows = copies.instruction_rows()
    text = f"Instruction: {HALF}\nResponse:" if field == "instruction" else HALF
    rows.append({**rows[0], "qid": "half", "image": None, field: text})
    write(copy / "all_data.json", {"all": rows})
    root = lay_out(tmp_path / "shared", source="lavin_instruct", existing=str(copy))
    with pytest.raises(DataError, match=f"{field} holds half of a character"):
        load_instructions(root)


@pytest.mark.parametrize("text", ["\ud83d", "a\udc00b", "\udfff\ud800"])
def test_halves_are_found_and_can_be_printed(text):
    assert len(surrogate_findings([("question", text), ("hint", "whole"), ("x", 3)])) == 1
    escape_surrogates(text).encode("utf-8")
    printed = dump_json({text: [text]})
    assert parse_json(printed, place="", remedy="", half_characters=True) == {text: [text]}
    printed.encode("utf-8")
