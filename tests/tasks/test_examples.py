"""Protects what is trained on and what is evaluated: formats, captions, withheld images."""

import json

import pytest

from ademvl.config.run import PromptSettings
from ademvl.errors import DataError
from ademvl.tasks.coco_caption.examples import (
    caption_evaluation_examples,
    caption_training_examples,
)
from ademvl.tasks.coco_caption.reader import load_caption_images
from ademvl.tasks.instruction.examples import instruction_training_examples
from ademvl.tasks.mme.examples import mme_examples
from ademvl.tasks.mme.reader import load_benchmark
from ademvl.tasks.scienceqa.examples import (
    scienceqa_evaluation_examples,
    scienceqa_training_examples,
)
from ademvl.tasks.scienceqa.reader import load_scienceqa
from tests.tiny import make_instructions, make_mme

CUE = "Response:The answer is"


@pytest.fixture
def dataset(tmp_path):
    raw = dict.fromkeys(("hint", "task", "topic", "category", "skill", "lecture", "solution"), "")
    raw |= {"question": "Which?", "choices": ["a", "b"], "answer": 0}
    raw |= {"grade": "grade1", "subject": "social science"}
    problems = {
        "7": {**raw, "image": "image.png", "split": "train"},
        "8": {**raw, "image": None, "split": "train"},
        "9": {**raw, "image": "image.png", "split": "test"},
    }
    splits = {"train": ["8", "7"], "val": [], "test": ["9"]}
    captions = {"captions": {"7": "a tree", "9": "a cat"}}
    for name, content in (
        ("problems", problems),
        ("pid_splits", splits),
        ("captions", captions),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return load_scienceqa(tmp_path)


def test_training_examples_show_no_caption(dataset):
    first, second = scienceqa_training_examples(dataset, PromptSettings(), "shown")
    assert (first.item_id, first.image) == ("8", None)
    assert (second.item_id, second.image) == ("7", dataset.root / "images/train/7/image.png")
    assert second.prompt.startswith("Context: N/A\nQuestion: Which?")
    assert second.answer == "The answer is A."


def test_matched_evaluation_asks_as_it_trained(dataset):
    trained = scienceqa_training_examples(dataset, PromptSettings(), "shown")
    asked = scienceqa_evaluation_examples(dataset, "train", PromptSettings(), "shown")
    assert [e.prompt for e in asked] == [e.prompt + "The answer is" for e in trained]
    assert {e.answer for e in asked} == {None}


def test_reference_evaluation_is_qcm_with_caption(dataset):
    settings = PromptSettings(evaluation="reference")
    (example,) = scienceqa_evaluation_examples(dataset, "test", settings, "shown")
    assert example.prompt == f"Question: Which?\nContext: a cat\nOptions: (A) a (B) b\n{CUE}"
    assert example.context == "a cat"


def test_reference_evaluation_without_any_captions_is_refused(dataset):
    (dataset.root / "captions.json").unlink()
    bare = load_scienceqa(dataset.root)
    settings = PromptSettings(evaluation="reference")
    with pytest.raises(DataError, match=r"there are none. Put the official captions\.json there"):
        scienceqa_evaluation_examples(bare, "test", settings, "shown")
    assert scienceqa_evaluation_examples(bare, "test", settings, "withheld")


@pytest.mark.parametrize("evaluation", ["matched", "reference"])
def test_withheld_images_leave_no_trace(dataset, evaluation):
    settings = PromptSettings(evaluation=evaluation)
    examples = scienceqa_training_examples(dataset, settings, "withheld")
    examples += scienceqa_evaluation_examples(dataset, "test", settings, "withheld")
    assert {example.image for example in examples} == {None}
    assert not any("a cat" in example.prompt for example in examples)


def test_caption_examples_double_the_prompt_in_training_only(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "3.png").write_bytes(b"x")
    (tmp_path / "karpathy").mkdir()
    train = [{"image": "3.png", "caption": "A Dog.", "image_id": 3}]
    references = {
        "images": [{"id": 3}],
        "annotations": [{"id": 0, "image_id": 3, "caption": "A Dog."}],
    }
    for name, content in (
        ("train", train),
        ("test", [{"image": "3.png"}]),
        ("test_gt", references),
    ):
        path = tmp_path / "karpathy" / f"coco_karpathy_{name}.json"
        path.write_text(json.dumps(content))

    (trained,) = caption_training_examples(tmp_path)
    (asked,) = caption_evaluation_examples(load_caption_images(tmp_path, "test"))

    assert (trained.prompt, trained.answer) == ("a picture of ", "a picture of a dog")
    assert (asked.item_id, asked.prompt, asked.answer) == ("3", "a picture of", None)
    assert trained.image == asked.image == tmp_path / "images" / "3.png"
    assert caption_training_examples(tmp_path, "withheld")[0].image is None
    plain = PromptSettings(caption_answer="plain", caption_cue="as_trained")
    assert caption_training_examples(tmp_path, "shown", plain)[0].answer == "a dog"
    assert (
        caption_evaluation_examples(load_caption_images(tmp_path, "test"), "shown", plain)[0].prompt
        == trained.prompt
    )


def test_instructions_are_trained_on_as_they_are_and_withheld_images_are(tmp_path):
    root = make_instructions(tmp_path)
    shown, withheld = (instruction_training_examples(root, use) for use in ("shown", "withheld"))
    first, second, third = shown[:3]
    assert (first.prompt, first.answer) == (
        "Instruction: What color is it?\nResponse:",
        "red",
    )
    assert (second.answer, third.answer, third.image) == ("Yes.", "", None)
    assert first.image == root / "images/train2014/COCO_train2014_000000000000.jpg"
    assert {example.image for example in withheld} == {None}


def test_questions_of_mme_are_asked_as_instructions(tmp_path):
    examples = mme_examples(load_benchmark(make_mme(tmp_path)))
    assert len({example.item_id for example in examples}) == len(examples) == 12
    assert examples[0].prompt == "Instruction: Is the square blue?\nResponse:"
    assert (examples[0].answer, examples[0].image) == (None, tmp_path / "color" / "blue.png")
