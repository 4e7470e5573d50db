"""Protects what an adapter tells of its training: the forms of its prompts, and what is none."""

import json
from pathlib import Path

import numpy as np
import pytest

from ademvl.data.prompt_forms import PromptForm, TrainedForms
from ademvl.data.rows import TokenizedExample
from ademvl.data.tokenizer import IGNORED_LABEL

IMAGE = Path("a.png")
WITH_IMAGE, WITH_HINT = (PromptForm(2, True, False), PromptForm(2, False, True))


def row(*, prompt: int, answer: int = 2, image: Path | None = None, choices: int = 2, hint=False):
    labels = [IGNORED_LABEL] * prompt + [7] * answer
    ids = np.arange(len(labels), dtype=np.int32)
    return TokenizedExample(
        "i", ids, np.array(labels, dtype=np.int32), -1, 0, image, False, choices, hint
    )


TRAINED = TrainedForms.of_rows(
    [
        row(prompt=20, image=IMAGE),
        row(prompt=24, image=IMAGE, choices=4),
        row(prompt=22, image=IMAGE),
        row(prompt=30, hint=True),
        row(prompt=99, answer=0, hint=True),  # nothing is learned there
    ]
)


def test_lengths_are_those_in_front_of_the_answer():
    assert TRAINED.prompt_tokens == {
        WITH_HINT: (30, 30),
        WITH_IMAGE: (20, 22),
        PromptForm(4, True, False): (24, 24),
    }


def test_forms_come_back_from_json():
    assert TrainedForms.from_json(json.loads(json.dumps(TRAINED.to_json()))) == TRAINED


@pytest.mark.parametrize(
    ("form", "num_tokens", "told"),
    [
        (WITH_IMAGE, 20, []),
        (WITH_IMAGE, 24, []),  # a length that another number of choices had
        (WITH_HINT, 30, []),
        (WITH_IMAGE, 25, ["a prompt of 25 tokens, but 20 to 24 in training"]),
        (WITH_HINT, 29, ["a prompt of 29 tokens, but 30 in training"]),
        (PromptForm(3, True, False), 22, ["3 choices, but 2 or 4 choices in training"]),
        (PromptForm(0, True, False), 22, ["no choices, but 2 or 4 choices in training"]),
        (
            PromptForm(4, False, True),
            30,
            ["4 choices, without image, with hint: never together in training"],
        ),
        (
            PromptForm(2, True, True),
            22,
            ["2 choices, with image, with hint: never together in training"],
        ),
        (PromptForm(5, True, False), 7, ["5 choices, but 2 or 4 choices in training"]),
    ],
)
def test_what_no_prompt_had_is_told(form, num_tokens, told):
    assert TRAINED.unlike(form, num_tokens=num_tokens) == told


@pytest.mark.parametrize(("image", "hint"), [(IMAGE, True), (None, False)])
def test_what_all_prompts_had_is_missed(image, hint):
    forms = TrainedForms.of_rows([row(prompt=9, image=image, hint=hint)])
    other = PromptForm(2, image is None, not hint)
    word = "with" if image is None else "without"
    assert forms.unlike(other, num_tokens=9) == [
        f"{word} image, unlike all that it was trained on",
        f"{word} hint, unlike all that it was trained on",
    ]


def test_nothing_is_told_where_nothing_is_known():
    assert TrainedForms.from_json([]).unlike(WITH_IMAGE, num_tokens=4) == []
