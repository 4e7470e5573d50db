"""Protects the strict reading of LaVIN's instruction data."""

import json

import pytest

from ademvl.errors import DataError
from ademvl.tasks.instruction.prompts import build_instruction_prompt
from ademvl.tasks.instruction.reader import load_instructions
from tests.tasks import copies


def write(root, rows):
    copies.write_json(root / "all_data.json", {"all": rows})
    copies.write_coco_images(root / "images")
    return root


def test_items_are_read_in_order_with_their_image(tmp_path):
    text_only, shown = load_instructions(write(tmp_path, copies.instruction_rows()))
    assert (text_only.item_id, text_only.image, text_only.answer) == ("alpaca_0", None, "hello")
    assert shown.prompt == "Instruction: What is it?\nResponse:"
    assert shown.image == tmp_path / "images" / copies.coco_name(1)


def test_prompt_is_the_one_that_the_file_has():
    (text_only, shown) = copies.instruction_rows()
    assert build_instruction_prompt("Say hello.") == text_only["instruction"]
    assert build_instruction_prompt("What is it?") == shown["instruction"]


def test_prompt_is_the_one_that_the_reference_generates_after(golden_dir):
    calls = json.loads((golden_dir / "F_generate.json").read_text(encoding="utf-8"))["calls"]
    for prompt in calls["mixed_len_gen6"]["prompts"]:
        text = prompt.removeprefix("Instruction: ").removesuffix("\nResponse:")
        assert build_instruction_prompt(text) == prompt


def test_empty_answers_are_kept(tmp_path):
    row = {**copies.instruction_rows()[0], "answer": ""}
    assert load_instructions(write(tmp_path, [row]))[0].answer == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"qid": 3}, "row 1: qid is 3, expected text"),
        ({"qid": "alpaca_0"}, "row 1: qid alpaca_0 occurs twice"),
        ({"answer": None}, "row 1: answer is None, expected text"),
        ({"instruction": "What?"}, 'does not run from "Instruction:" to "Response:"'),
        ({"image": "../1.jpg"}, "image is '../1.jpg', expected a file name of COCO"),
        ({"image_source": "web"}, "image_source is 'web', expected 'mscoco'"),
        ({"image": "000000000099.jpg"}, "image of item gpt4_0 is missing"),
    ],
)
def test_bad_item_is_named(tmp_path, changes, said):
    rows = copies.instruction_rows()
    rows[1] |= changes
    with pytest.raises(DataError) as caught:
        load_instructions(write(tmp_path, rows))
    assert said in str(caught.value)
    assert "(1 found)" in str(caught.value)


def test_file_without_its_list_is_refused(tmp_path):
    copies.write_json(tmp_path / "all_data.json", [])
    with pytest.raises(DataError, match="no list 'all' in it"):
        load_instructions(tmp_path)
